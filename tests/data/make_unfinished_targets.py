"""Makes ``unfinished_targets.zip``: what the vecmigrate installed here leaves of a killed run.

Run it with the version whose targets are to be read later:
``python tests/data/make_unfinished_targets.py``. The one in the repository is of commit cce0ad1,
before the connectors shared how a target is staged.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from vecmigrate import open_sink
from vecmigrate.points.batch import VectorBatch
from vecmigrate.points.collection import Metric, Provenance, TargetSpec

PLACES = {
    "faiss": "faiss:{}/new.faiss",
    "parquet": "parquet:{}/new",
    "npy": "npy:{}/new.npy",
    "lancedb": "lancedb:{}/new",
}
SPEC = TargetSpec(
    dimension=4,
    metric=Metric.DOT,
    provenance=Provenance(vecmigrate_version="0", source="faiss:old", created_at="2026-01-01"),
)


def batch(first: int, last: int) -> VectorBatch:
    """Points with ids from ``first`` to before ``last``."""
    ids = np.arange(first, last)
    vectors = np.repeat(ids[:, None] + 1, 4, axis=1).astype(np.float32)
    return VectorBatch(ids, vectors, [{"text": f"point {n}"} for n in ids.tolist()])


def make(out: Path) -> None:
    """Write of each store a target with 6 points, and 2 more after the checkpoint."""
    tokens: dict[str, str | None] = {}
    with TemporaryDirectory() as made, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for store, place in PLACES.items():
            folder = Path(made, store)
            folder.mkdir()
            sink = open_sink(place.format(folder), SPEC)
            sink.write(batch(0, 6))
            tokens[store] = sink.checkpoint()
            sink.write(batch(6, 8))
            sink.suspend()
            with open_sink(place.replace("new", "whole").format(folder), SPEC) as sink:
                sink.write(batch(0, 6))
                sink.finish()
        for path in sorted(Path(made).rglob("*")):
            archive.write(path, path.relative_to(made))
        archive.writestr("tokens.json", json.dumps(tokens, indent=1))


if __name__ == "__main__":
    make(Path(__file__).with_name("unfinished_targets.zip"))
