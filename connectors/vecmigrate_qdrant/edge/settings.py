"""A collection's settings as the engine keeps them: in JSON files of the server's own words."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import qdrant_edge
from pydantic import BaseModel, TypeAdapter
from qdrant_client import models

from vecmigrate_qdrant.points import UNNAMED

CONFIG_FILE = "edge_config.json"
SEGMENTS = "segments"
LOG_SETTING = "wal_enabled"
"""In the config; True if it is not there."""

# What the engine, as a server, takes if it is told nothing.
_HNSW = {"m": 16, "ef_construct": 100, "full_scan_threshold": 10_000}
_OPTIMIZERS = {"default_segment_number": 0, "flush_interval_sec": 5}

_OPTIMIZED_BY = (
    "deleted_threshold",
    "vacuum_min_vector_number",
    "default_segment_number",
    "max_segment_size",
    "indexing_threshold",
)

_VECTORS = TypeAdapter(dict[str, models.VectorParams])
_SCHEMA: TypeAdapter[Any] = TypeAdapter(models.PayloadFieldSchema)

_INDEXES = {
    "keyword": qdrant_edge.KeywordIndexParams,
    "integer": qdrant_edge.IntegerIndexParams,
    "float": qdrant_edge.FloatIndexParams,
    "geo": qdrant_edge.GeoIndexParams,
    "text": qdrant_edge.TextIndexParams,
    "bool": qdrant_edge.BoolIndexParams,
    "datetime": qdrant_edge.DatetimeIndexParams,
    "uuid": qdrant_edge.UuidIndexParams,
}


def engine_config(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the engine's config of a collection with these arguments of ``create_collection``."""
    vectors = arguments["vectors_config"]
    named = {UNNAMED: vectors} if isinstance(vectors, models.VectorParams) else vectors
    hnsw = _HNSW | _dump(arguments.get("hnsw_config"))
    config: dict[str, Any] = {
        "vectors": {name: _dense(_dump(params), hnsw) for name, params in named.items()},
        "sparse_vectors": {
            name: _sparse(params)
            for name, params in (arguments.get("sparse_vectors_config") or {}).items()
        },
        "hnsw_config": hnsw,
    }
    if arguments.get("on_disk_payload") is not None:
        config["on_disk_payload"] = arguments["on_disk_payload"]
    if arguments.get("quantization_config") is not None:
        config["quantization_config"] = _dump(arguments["quantization_config"])
    optimizers = _dump(arguments.get("optimizers_config"))
    config["optimizers"] = {n: optimizers[n] for n in _OPTIMIZED_BY if n in optimizers}
    return config


def collection_config(config: Mapping[str, Any]) -> models.CollectionConfig:
    """Return a server's words for what an engine's config says; the rest is left out."""
    hnsw = _HNSW | (config.get("hnsw_config") or {})
    vectors = _VECTORS.validate_python(
        {name: _own(found, hnsw) for name, found in (config.get("vectors") or {}).items()}
    )
    sparse = {
        name: models.SparseVectorParams.model_validate(_nested(found))
        for name, found in (config.get("sparse_vectors") or {}).items()
    }
    params = models.CollectionParams(
        vectors=vectors[UNNAMED] if set(vectors) == {UNNAMED} else vectors,
        sparse_vectors=sparse or None,
        on_disk_payload=config.get("on_disk_payload"),
        # Of a shard, these say nothing.
        shard_number=None,
        replication_factor=None,
        write_consistency_factor=None,
    )
    return models.CollectionConfig.model_validate(
        {
            "params": params,
            "hnsw_config": hnsw,
            "optimizer_config": _OPTIMIZERS | _set(config.get("optimizers")),
            "quantization_config": config.get("quantization_config"),
        }
    )


def collection_info(
    infos: Sequence[Any],
    config: models.CollectionConfig,
    schema: dict[str, models.PayloadIndexInfo],
) -> models.CollectionInfo:
    """Return what a server would say of a collection whose shards say ``infos``."""
    return models.CollectionInfo(
        status=models.CollectionStatus.GREEN,
        optimizer_status=models.OptimizersStatusOneOf.OK,
        segments_count=sum(info.segments_count for info in infos),
        points_count=sum(info.points_count for info in infos),
        indexed_vectors_count=sum(info.indexed_vectors_count for info in infos),
        config=config,
        payload_schema=schema,
    )


def read_config(directory: Path) -> dict[str, Any]:
    """Return the config of the shard in a directory.

    Raises
    ------
    OSError, ValueError
        If there is none, or it is not whole.
    """
    found = json.loads((directory / CONFIG_FILE).read_text())
    if not isinstance(found, dict):
        raise ValueError(f"{CONFIG_FILE} holds no object")
    return found


def payload_schema(found: Mapping[str, Any]) -> dict[str, models.PayloadIndexInfo]:
    """Return payload indexes by field, each given as a type or as its parameters, in JSON."""
    return {
        name: models.PayloadIndexInfo(
            data_type=models.PayloadSchemaType(
                schema if isinstance(schema, str) else schema["type"]
            ),
            params=None if isinstance(schema, str) else _SCHEMA.validate_python(schema),
            points=0,
        )
        for name, schema in sorted(found.items())
    }


def indexed_fields(directory: Path) -> dict[str, Any]:
    """Return the payload indexes of the shard in a directory, see :func:`payload_schema`."""
    fields: dict[str, Any] = {}
    for file in sorted(directory.glob(f"{SEGMENTS}/*/payload_index/config.json")):
        fields |= json.loads(file.read_text()).get("indexed_fields", {})
    return fields


def last_update(directory: Path) -> int:
    """Return the highest number of an update that the flushed segments of a shard have."""
    files = directory.glob(f"{SEGMENTS}/*/segment.json")
    return max((json.loads(file.read_text())["version"] or 0 for file in files), default=0)


def engine_index(schema: models.PayloadFieldSchema) -> Any:
    """Return what the engine creates a payload index by."""
    if isinstance(schema, models.PayloadSchemaType):
        return getattr(qdrant_edge.PayloadSchemaType, schema.value.capitalize())
    assert isinstance(schema, BaseModel)
    found = _dump(schema)
    kind = _INDEXES[found.pop("type")]
    return kind(**{name: _engine_value(name, value) for name, value in found.items()})


def _engine_value(name: str, value: Any) -> Any:
    if name == "tokenizer":
        return getattr(qdrant_edge.TokenizerType, value.capitalize())
    if name == "memory":
        return getattr(qdrant_edge.Memory, value.capitalize())
    if name == "stopwords":
        if isinstance(value, str):
            return _language(value)
        languages = set(map(_language, value.get("languages") or ()))
        return qdrant_edge.StopwordsSet(languages, set(value.get("custom") or ()))
    if name == "stemmer":
        return _stemmer(value)
    if name == "scoring" and isinstance(value, dict):
        return qdrant_edge.TextScoringParams(**value)
    return value


def _language(value: str) -> Any:
    return getattr(qdrant_edge.Language, value.capitalize())


def _stemmer(value: Mapping[str, Any]) -> Any:
    if value["type"] == "none":
        return qdrant_edge.DisabledStemmer()
    language = getattr(qdrant_edge.SnowballLanguage, value["language"].capitalize())
    return qdrant_edge.SnowballParams(language)


def _dense(params: dict[str, Any], hnsw: Mapping[str, Any]) -> dict[str, Any]:
    # A server's vector names what differs from the collection; the engine's is told all.
    own = params.get("hnsw_config")
    return params if own is None else {**params, "hnsw_config": {**hnsw, **own}}


def _own(params: Mapping[str, Any], hnsw: Mapping[str, Any]) -> dict[str, Any]:
    """Undo :func:`_dense`."""
    kept = {
        name: value for name, value in params.items() if name in models.VectorParams.model_fields
    }
    own = {n: v for n, v in (params.get("hnsw_config") or {}).items() if hnsw.get(n) != v}
    return {**kept, "hnsw_config": own or None}


def _nested(params: Mapping[str, Any]) -> dict[str, Any]:
    """Undo :func:`_sparse`."""
    index = {n: params[n] for n in models.SparseIndexParams.model_fields if n in params}
    return {"index": index or None, "modifier": params.get("modifier")}


def _sparse(params: models.SparseVectorParams) -> dict[str, Any]:
    found = _dump(params)
    return {**found.pop("index", {}), **found}


def _dump(model: BaseModel | None) -> dict[str, Any]:
    return {} if model is None else model.model_dump(mode="json", exclude_none=True)


def _set(found: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (found or {}).items() if value is not None}


def unkept(settings: Mapping[str, Any]) -> list[str]:
    """Name the settings that a shard has no place for, but for those that say nothing of one."""
    trivial: Iterable[Any] = (None, {}, [], 1, "auto")
    names = (
        "wal_config",
        "strict_mode_config",
        "shard_keys",
        "sharding_method",
        "shard_number",
        "replication_factor",
        "write_consistency_factor",
        "read_fan_out_factor",
        "read_fan_out_delay_ms",
    )
    return [name for name in names if settings.get(name) not in trivial]
