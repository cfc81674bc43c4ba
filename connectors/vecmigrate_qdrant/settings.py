"""A collection's configuration as JSON, and back into what creates a collection like it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from pydantic import BaseModel, JsonValue, TypeAdapter
from qdrant_client import models

from vecmigrate.connector import (
    Metric,
    MismatchError,
    TargetSpec,
    UsageError,
    float32_setting,
    told_as,
)
from vecmigrate_qdrant.marks import foreign_metadata
from vecmigrate_qdrant.points import UNNAMED, dense_params, other_vectors

DISTANCES = {
    Metric.COSINE: models.Distance.COSINE,
    Metric.DOT: models.Distance.DOT,
    Metric.EUCLID: models.Distance.EUCLID,
    Metric.MANHATTAN: models.Distance.MANHATTAN,
}
METRICS = {distance: metric for metric, distance in DISTANCES.items()}

_COUNTS = ("shard_number", "replication_factor", "write_consistency_factor", "on_disk_payload")

# What only a change of the collection sets.
_FAN_OUT = ("read_fan_out_factor", "read_fan_out_delay_ms")

# What create_collection takes, and as which type it takes it.
_CONFIGS: Mapping[str, Any] = {
    "hnsw_config": models.HnswConfigDiff,
    "optimizers_config": models.OptimizersConfigDiff,
    "wal_config": models.WalConfigDiff,
    "quantization_config": models.QuantizationConfig,
    "payload": models.PayloadStorageParams,
    "id_tracker": models.IdTrackerParams,
    "sharding_method": models.ShardingMethod,
}

_SERVER_ONLY = (*_CONFIGS, "strict_mode_config", "shard_keys", *_COUNTS, *_FAN_OUT)


def read_settings(
    info: models.CollectionInfo, vector: str, *, embedded: bool
) -> dict[str, JsonValue]:
    """Return all that a collection like this one needs; the dimension and metric are left out.

    Embedded storage keeps only the vectors' parameters and makes up the rest, so that the rest is
    left out as well.
    """
    config, params = info.config, info.config.params
    dense, sparse = dense_params(params), params.sparse_vectors or {}
    settings: dict[str, JsonValue] = {
        "vector": vector,
        "vector_params": _dump(dense[vector], exclude={"size", "distance"}),
        "other_vectors": {n: _dump(dense[n]) for n in other_vectors(params, vector) if n in dense},
        "sparse_vectors": {name: _dump(found) for name, found in sparse.items()},
        "metadata": foreign_metadata(info),
    }
    if embedded:
        return settings
    found: dict[str, BaseModel | None] = {
        "hnsw_config": config.hnsw_config,
        "optimizers_config": config.optimizer_config,
        "wal_config": config.wal_config,
        "quantization_config": config.quantization_config,
        "payload": params.payload,
        "id_tracker": params.id_tracker,
        "strict_mode_config": config.strict_mode_config,
    }
    settings |= {name: _dump(model) for name, model in found.items() if model is not None}
    counts = (*_COUNTS, *_FAN_OUT)
    settings |= {name: v for name in counts if (v := getattr(params, name)) is not None}
    if params.sharding_method is not None:
        settings["sharding_method"] = params.sharding_method.value
    settings["payload_schema"] = {
        field: _dump(index, exclude={"points"}) for field, index in info.payload_schema.items()
    }
    return settings


def creation_arguments(
    settings: Mapping[str, JsonValue], vector: str, dimension: int, metric: Metric
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the arguments of ``create_collection``, and notes on what could not be kept.

    Raises
    ------
    MismatchError
        If the settings are none that :func:`read_settings` gives.
    UsageError
        If ``vector`` is the name of another one that is to be copied.
    """
    stored = settings.get("vector_params") or {}
    notes: tuple[str, ...] = ()
    others, sparse = (_mapping(settings.get(n) or {}) for n in ("other_vectors", "sparse_vectors"))
    if vector in others or vector in sparse:
        raise UsageError(
            f"the target's vector cannot be named {vector!r}: another one that is copied has "
            "that name",
            remedy="Give the target another ?vector=NAME, or none to keep the name.",
        )
    with understood():
        params = models.VectorParams.model_validate(
            {**_mapping(stored), "size": dimension, "distance": DISTANCES[metric]}
        )
        arguments = {
            name: TypeAdapter(kind).validate_python(_known(kind, settings[name]))
            for name, kind in _CONFIGS.items()
            if settings.get(name) is not None
        }
        beside = {n: models.VectorParams.model_validate(found) for n, found in others.items()}
        if sparse:
            arguments["sparse_vectors_config"] = {
                n: models.SparseVectorParams.model_validate(found) for n, found in sparse.items()
            }
    if params.datatype == models.Datatype.UINT8:
        params.datatype = None
        notes = ("translated vectors are no whole numbers: stored as float32, not as uint8",)
    arguments |= {name: settings[name] for name in _COUNTS if settings.get(name) is not None}
    alone = vector == UNNAMED and not beside
    arguments["vectors_config"] = params if alone else {vector: params, **beside}
    return arguments, notes


def payload_indexes(settings: Mapping[str, JsonValue]) -> dict[str, models.PayloadFieldSchema]:
    """Return the payload indexes to create, by field; raises as :func:`creation_arguments`."""
    with understood():
        indexes = {
            field: models.PayloadIndexInfo.model_validate({**_mapping(index), "points": 0})
            for field, index in _mapping(settings.get("payload_schema") or {}).items()
        }
    return {field: index.params or index.data_type for field, index in indexes.items()}


def others(settings: Mapping[str, JsonValue]) -> frozenset[str]:
    """Return the names of the other vectors of each point, sparse ones included."""
    found = (_mapping(settings.get(n) or {}) for n in ("other_vectors", "sparse_vectors"))
    return frozenset(name for names in found for name in names)


def is_multivector(settings: Mapping[str, JsonValue]) -> bool:
    """Tell whether each point is to have any number of the vector."""
    return "multivector_config" in _mapping(settings.get("vector_params") or {})


def fan_out(settings: Mapping[str, JsonValue]) -> models.CollectionParamsDiff | None:
    """Return the read fan-out to set, if any; raises as :func:`creation_arguments`."""
    found = {name: settings[name] for name in _FAN_OUT if settings.get(name) is not None}
    with understood():
        return models.CollectionParamsDiff.model_validate(found) if found else None


def unknown_to_embedded(settings: Mapping[str, JsonValue]) -> list[str]:
    """Name the settings that embedded storage has no place for."""
    return [name for name in _SERVER_ONLY if settings.get(name) not in (None, {}, [])]


def strict_mode(
    settings: Mapping[str, JsonValue], spec: TargetSpec
) -> tuple[models.StrictModeConfig | None, tuple[str, ...]]:
    """Return the strict mode to set, if any, and notes on limits that were raised.

    A limit on the size of vectors grows with the dimension, unless ``spec.keep_limits`` is set.

    Raises
    ------
    MismatchError
        As :func:`creation_arguments`; and if a limit that is to be kept is too small.
    """
    found = settings.get("strict_mode_config")
    if found is None:
        return None, ()
    with understood():
        mode = models.StrictModeConfig.model_validate(_known(models.StrictModeConfig, found))
    limit, before = mode.max_collection_vector_size_bytes, spec.source_dimension
    if not mode.enabled or limit is None or before is None or spec.dimension <= before:
        return mode, ()
    if not spec.keep_limits:
        mode.max_collection_vector_size_bytes = math.ceil(limit * spec.dimension / before)
        return mode, (
            f"strict mode's max_collection_vector_size_bytes is {limit:,} at the source and "
            f"{mode.max_collection_vector_size_bytes:,} at the target, as vectors have "
            f"{spec.dimension} dimensions instead of {before}",
        )
    needed = _bytes_of_vectors(settings, spec)
    if needed > limit:
        raise MismatchError(
            f"the source's limit max_collection_vector_size_bytes of {limit:,} is too small for "
            f"the target, whose vectors take about {needed:,} bytes",
            remedy="Raise the limit at the source, or leave out --keep-limits.",
        )
    return mode, ()


def _bytes_of_vectors(settings: Mapping[str, JsonValue], spec: TargetSpec) -> int:
    """Estimate how many bytes the dense vectors of all points take."""
    others = _mapping(settings.get("other_vectors") or {}).values()
    sizes = [_mapping(other).get("size") for other in others]
    each = spec.dimension + sum(size for size in sizes if isinstance(size, int))
    return 4 * each * (spec.source_count or 0)


def forbids_indexing(info: models.CollectionInfo) -> str | None:
    """Say why a server never indexes a collection, by its own settings; None if it does."""
    optimizers = info.config.optimizer_config
    if optimizers.max_optimization_threads == 0:
        return "max_optimization_threads is 0"
    if optimizers.indexing_threshold == 0:
        return "indexing_threshold is 0"
    return None


def never_indexed(info: models.CollectionInfo) -> str:
    """Say why nothing is indexed in a collection of which that is known."""
    threshold = info.config.optimizer_config.indexing_threshold
    above = "" if threshold is None else f" of {threshold:,} kB"
    return forbids_indexing(info) or f"no segment has reached the threshold{above}"


def index_type(info: models.CollectionInfo, vector: str, *, embedded: bool) -> str:
    """Name a vector's index in Qdrant's words, as ``HNSW(m=16, ef_construct=100)``."""
    if embedded:
        return "exact (embedded Qdrant keeps no index)"
    params = dense_params(info.config.params)[vector]
    own, common = params.hnsw_config or models.HnswConfigDiff(), info.config.hnsw_config
    m = common.m if own.m is None else own.m
    ef_construct = common.ef_construct if own.ef_construct is None else own.ef_construct
    name = f"HNSW(m={m}, ef_construct={ef_construct})" if m else "exact (HNSW is off: m=0)"
    quantization = params.quantization_config or info.config.quantization_config
    if quantization is not None:
        name += f", {next(iter(type(quantization).model_fields))} quantization"
    return name


def _dump(model: BaseModel, exclude: set[str] | None = None) -> dict[str, JsonValue]:
    dumped = model.model_dump(mode="json", exclude_none=True, exclude=exclude)
    return {name: _told_alike(value) for name, value in dumped.items()}


def _told_alike(value: JsonValue) -> JsonValue:
    """Return what REST and gRPC tell of a setting in the same form: each list of one is a set."""
    if isinstance(value, dict):
        return {name: _told_alike(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return sorted(map(_told_alike, value), key=str)
    if isinstance(value, float) and np.float32(value) == value:
        return float32_setting(value)
    return value


def _known(kind: Any, value: JsonValue) -> JsonValue:
    """Leave out what the type to create with does not know, as figures that only a server tells."""
    if isinstance(value, dict) and hasattr(kind, "model_fields"):
        return {k: v for k, v in value.items() if k in kind.model_fields}
    return value


def _mapping(value: JsonValue) -> dict[str, JsonValue]:
    if isinstance(value, dict):
        return value
    with understood():
        raise ValueError(f"{value!r} is no object")


def understood(what: str = "collection") -> AbstractContextManager[None]:
    """Raise :class:`MismatchError` for settings that are none that :func:`read_settings` gives."""
    return told_as(
        MismatchError,
        f"the settings for the new Qdrant {what} are not understood",
        "Use those that the description of a Qdrant source holds.",
        (ValueError,),  # ValidationError is one
    )
