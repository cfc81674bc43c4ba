"""A collection's settings: what a server makes of those that it is given."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import BaseModel
from qdrant_client import models

HNSW = {
    "m": 16,
    "ef_construct": 100,
    "full_scan_threshold": 10000,
    "max_indexing_threads": 0,
    "on_disk": False,
}
OPTIMIZERS = {
    "deleted_threshold": 0.2,
    "vacuum_min_vector_number": 1000,
    "default_segment_number": 0,
    "indexing_threshold": 10000,
    "flush_interval_sec": 5,
}
WAL = {"wal_capacity_mb": 32, "wal_segments_ahead": 0, "wal_retain_closed": 1}
COUNTS = ("shard_number", "replication_factor", "write_consistency_factor")
SETTINGS = {"hnsw_config", "optimizers_config", "quantization_config", "vectors"}
"""Those that the engine needs to know anew."""


def configured(body: models.CreateCollection) -> models.CollectionConfig:
    """The settings of a new collection, with the server's defaults."""
    vectors = body.vectors
    if isinstance(vectors, dict):
        vectors = dict(sorted(vectors.items()))
    for each in vectors.values() if isinstance(vectors, dict) else [vectors] if vectors else []:
        each.quantization_config = single(each.quantization_config)
    params = {
        **dict.fromkeys(COUNTS, 1),
        "on_disk_payload": True,
        **_told(body, *COUNTS, "on_disk_payload", "sharding_method", "payload", "id_tracker"),
    }
    sparse = body.sparse_vectors
    return models.CollectionConfig(
        params=models.CollectionParams(
            vectors=vectors,
            sparse_vectors=dict(sorted(sparse.items())) if sparse else None,
            **params,
        ),
        hnsw_config=models.HnswConfig(**HNSW | _told(body.hnsw_config)),
        optimizer_config=models.OptimizersConfig(**OPTIMIZERS | _told(body.optimizers_config)),
        wal_config=models.WalConfig(**WAL | _told(body.wal_config)),
        quantization_config=single(body.quantization_config),
        strict_mode_config=told_strict(body.strict_mode_config),
        metadata=body.metadata,
    )


def reconfigured(
    config: models.CollectionConfig, body: models.UpdateCollection
) -> models.CollectionConfig:
    """Settings after a change; what it does not name stays."""
    changed = config.model_copy(deep=True)
    changed.params = config.params.model_copy(update=_fields(body.params), deep=True)
    for name, given in (("hnsw_config", "hnsw_config"), ("optimizer_config", "optimizers_config")):
        told = _fields(getattr(body, given))
        setattr(changed, name, getattr(config, name).model_copy(update=told))
    if body.quantization_config is not None:
        off = isinstance(body.quantization_config, models.Disabled)
        changed.quantization_config = None if off else single(body.quantization_config)
    for name, diff in (body.vectors or {}).items():
        held_vectors: Any = changed.params.vectors
        chosen = held_vectors[name] if isinstance(held_vectors, dict) else held_vectors
        for field in diff.model_fields_set:
            setattr(chosen, field, getattr(diff, field))
    if body.metadata is not None:
        merged = {**(config.metadata or {}), **body.metadata}
        changed.metadata = {key: value for key, value in merged.items() if value is not None}
    return changed


def stricter(
    held: models.StrictModeConfig | None, diff: models.StrictModeConfig
) -> models.StrictModeConfig:
    """Limits after a change; those that it does not name stay."""
    return (held or models.StrictModeConfig()).model_copy(update=_fields(diff))


def told_strict(
    strict: models.StrictModeConfig | None,
) -> models.StrictModeConfigOutput | None:
    """Limits as the client can read them: not all that it can set."""
    if strict is None:
        return None
    told = strict.model_dump(exclude_none=True)
    known = set(models.StrictModeConfigOutput.model_fields)
    return models.StrictModeConfigOutput(
        **{name: value for name, value in told.items() if name in known}
    )


def single(quantization: Any) -> Any:
    """Quantisation as it is kept: in numbers of 32 bits, which are told by their shortest text."""
    if not isinstance(quantization, models.ScalarQuantization):
        return quantization
    kept = quantization.model_copy(deep=True)
    if kept.scalar.quantile is not None:
        kept.scalar.quantile = float(str(np.float32(kept.scalar.quantile)))
    return kept


def kept_index(schema: BaseModel) -> BaseModel:
    """The parameters of an index as they are kept: stop words in an order of their own."""
    words = getattr(schema, "stopwords", None)
    if not isinstance(words, models.StopwordsSet):
        return schema
    kept = models.StopwordsSet(
        languages=words.languages and sorted(words.languages),
        custom=words.custom and sorted(words.custom),
    )
    return schema.model_copy(update={"stopwords": kept})


def _fields(diff: Any) -> dict[str, Any]:
    """The fields of a change that are set, as they are."""
    if diff is None:
        return {}
    named = {name: getattr(diff, name) for name in type(diff).model_fields}
    return {name: value for name, value in named.items() if value is not None}


def _told(body: Any, *names: str) -> dict[str, Any]:
    """What a request says, of all its fields or of some."""
    if body is None:
        return {}
    told = body.model_dump(exclude_none=True, include=set(names) if names else None)
    return dict(told)
