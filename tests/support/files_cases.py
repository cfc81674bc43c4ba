"""Vectors and tables for the tests of Parquet and NumPy files."""

from __future__ import annotations

import datetime
import json
import uuid
from typing import Any

import numpy as np
import pyarrow as pa

from vecmigrate import Procrustes, open_sink, open_source
from vecmigrate.connector import Metric, TargetSpec, VectorBatch, id_array

COUNT, DIM = 2500, 16


def unit_vectors(count: int = COUNT, dimension: int = DIM) -> np.ndarray:
    vectors = np.random.default_rng(0).standard_normal((count, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def lists(vectors: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])


def own_table(count: int = COUNT) -> pa.Table:
    """A table with a column of every type that payloads can hold."""
    start = datetime.datetime(2026, 1, 1)
    hours = [start + datetime.timedelta(hours=n, microseconds=n) for n in range(count)]
    numbers = range(count)
    return pa.table(
        {
            "text": [f"the text of {n}, é 漢字 🙂" for n in numbers],
            "key": [f"doc'{n}" for n in numbers],
            "n": pa.array(numbers, pa.int32()),
            "embedding": lists(unit_vectors(count)),
            "big": pa.array([2**64 - 1 - n for n in numbers], pa.uint64()),
            "score": pa.array([n / 7 if n % 3 else None for n in numbers], pa.float32()),
            "nan": pa.array([float("nan"), None, 1.5, float("inf")] * (count // 4)),
            "half": pa.array(np.arange(count, dtype=np.float16)),
            "flag": [n % 2 == 0 if n % 5 else None for n in numbers],
            "at": pa.array(hours, pa.timestamp("us")),
            "zoned": pa.array(hours, pa.timestamp("ns", tz="Europe/Berlin")),
            "day": pa.array([h.date() for h in hours]),
            "clock": pa.array([h.time() for h in hours], pa.time64("us")),
            "tags": [["a", None, str(n)] if n % 2 else None for n in numbers],
            "price": pa.array([f"{n}.25" for n in numbers]).cast(pa.decimal128(12, 2)),
            "kind": pa.array(["odd" if n % 2 else "even" for n in numbers]).dictionary_encode(),
            "where": [{"page": n, "name": f"p{n}" if n % 4 else None} for n in numbers],
            "events": pa.array([[{"at": hours[n], "what": "x"}] * (n % 3) for n in numbers]),
            "uid": pa.array([uuid.UUID(int=n).bytes for n in numbers], pa.uuid()),
            "long": pa.array([f"l{n}" for n in numbers], pa.large_string()),
            "empty": pa.nulls(count),
        }
    )


def identity(dimension: int = DIM) -> Procrustes:
    return Procrustes(center=False, scale=False).fit(np.eye(dimension), np.eye(dimension))


def write(uri: str, batch: VectorBatch, **spec: Any) -> None:
    wanted = TargetSpec(**{"dimension": batch.vectors.shape[1], "metric": Metric.DOT, **spec})
    with open_sink(uri, wanted) as sink:
        sink.write(batch)
        sink.finish()


def read(uri: str, size: int = 1000) -> VectorBatch:
    with open_source(uri) as source:
        batches = list(source.batches(size))
    return VectorBatch(
        id_array([i for b in batches for i in b.ids.tolist()]),
        np.concatenate([b.vectors for b in batches]),
        [dict(p) for b in batches for p in b.each_payload()],
    )


def as_json(payloads: Any) -> str:
    return json.dumps(list(map(dict, payloads)), sort_keys=True)


PLACES = ["parquet:{}/new.parquet", "parquet:{}/new", "npy:{}/new.npy"]
