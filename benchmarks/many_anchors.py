"""What fitting kernel ridge on many anchors takes: ``python benchmarks/many_anchors.py 50000``.

Synthetic anchors of 384 to 768 dimensions; prints seconds and the peak of resident memory.
"""

from __future__ import annotations

import resource
import sys
import time

import numpy as np

from vecmigrate import KernelRidge


def main(anchors: int) -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((anchors, 384)).astype(np.float32)
    Y = np.tanh(X @ rng.standard_normal((384, 768)).astype(np.float32))
    for vectors in (X, Y):
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    begun = time.perf_counter()
    fitted = KernelRidge().fit(X, Y)
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    landmarks = len(fitted.landmarks_)
    print(f"{anchors:,} anchors, {landmarks:,} landmarks: {seconds:.0f} s, {peak:.1f} GiB")


if __name__ == "__main__":
    main(int(sys.argv[1]))
