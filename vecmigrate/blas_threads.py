"""The threads of NumPy's BLAS.

A product that BLAS spreads over all processors waits, spinning, for its slowest part; where other
threads read and write meanwhile, one part is always late. Several products at once, a thread each,
take the same processors and wait for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_info, threadpool_limits


def blas_threads() -> int:
    """Return how many threads a product takes: the processors, or as OPENBLAS_NUM_THREADS says.

    A container's share of them is heeded, which BLAS does not know. 1 where the library is not one
    whose threads can be set.
    """
    from joblib import cpu_count

    counts = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    return min(max(counts, default=1), int(cpu_count()))


@contextmanager
def one_thread_a_product() -> Iterator[None]:
    """Have products take a thread each, in all of the process, until the context ends."""
    with threadpool_limits(1, user_api="blas"):
        yield
