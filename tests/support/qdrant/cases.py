"""What a Qdrant collection can have, each with what becomes of it in a migration."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from qdrant_client import models

COUNT, FEW, SIZE = 400, 40, 8
LOCAL, SERVED = ("embedded", "rest", "grpc"), ("grpc",)
KEPT, LOSSY, REFUSED = "kept", "lossy", "refused"

Named = dict[str, Any]
"""A point's vectors by name."""


def dense(row: int, size: int = SIZE) -> list[float]:
    """A vector that float16 and a sum of squares hold exactly, never zero."""
    rng = np.random.default_rng(row)
    return [*(rng.integers(-8, 9, size - 1) / 4).tolist(), 0.25]


def whole(row: int) -> list[float]:
    return [float(value) for value in np.random.default_rng(row).integers(1, 256, SIZE)]


def tokens(row: int, size: int = SIZE) -> list[list[float]]:
    return [dense(1000 * row + at, size) for at in range(1 + row % 5)]


def sparse(row: int) -> models.SparseVector:
    return models.SparseVector(indices=[row, 5000 + row], values=[0.5, row + 0.25])


def params(size: int = SIZE, **more: Any) -> models.VectorParams:
    return models.VectorParams(**{"size": size, "distance": models.Distance.DOT, **more})


@dataclass(frozen=True)
class Case:
    """A collection of ``count`` points in the first place, and of a FEW in the others.

    Attributes
    ----------
    says
        For the table: what exactly is kept.
    create
        Arguments of ``create_collection``.
    vectors
        Each point's vectors, of its row.
    option
        Of the source's URI.
    places
        Where it can be had; each is tested, and a real server where there is one.
    rounding
        How far a vector may be off, relative to its length: the store's own rounding.
    """

    feature: str
    says: str
    create: Named = field(default_factory=dict)
    vectors: Callable[[int], Named] = lambda row: {"": dense(row)}
    option: str = ""
    places: tuple[str, ...] = SERVED
    indexes: dict[str, Any] = field(default_factory=dict)
    change: Named = field(default_factory=dict)
    shard_keys: tuple[int | str, ...] = ()
    rounding: float = 0.0
    integer_ids: bool = False
    count: int = COUNT

    def id_of(self, row: int) -> int | str:
        return row if row % 2 or self.integer_ids else str(uuid.UUID(int=row + 1))

    def payload_of(self, row: int) -> Named:
        if row % 7 == 0:
            return {}
        return {"text": f"text {row}", "n": row, "deep": {"list": [row, None, {"x": 0.5}]}}

    def shard_key_of(self, row: int) -> int | str | None:
        return self.shard_keys[row % len(self.shard_keys)] if self.shard_keys else None


def _quantised(kind: str, config: Any) -> Case:
    return Case(
        f"{kind} quantisation",
        "collection-wide and of each vector",
        {
            "vectors_config": {"a": params(quantization_config=config), "b": params()},
            "quantization_config": config,
        },
        lambda row: {"a": dense(row), "b": dense(row + 1)},
        option="vector=a",
    )


_MAX_SIM = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
_TEXT = models.TextIndexParams(
    type=models.TextIndexType.TEXT,
    tokenizer=models.TokenizerType.MULTILINGUAL,
    min_token_len=2,
    max_token_len=20,
    lowercase=True,
    ascii_folding=True,
    phrase_matching=True,
    stopwords=models.StopwordsSet(languages=[models.Language.ENGLISH], custom=["qdrant"]),
    stemmer=models.SnowballParams(
        type=models.Snowball.SNOWBALL, language=models.SnowballLanguage.ENGLISH
    ),
    on_disk=True,
)

CASES = [
    # More than a server is sent at once.
    Case("ids, payloads", "of both kinds; JSON of every shape", places=LOCAL, count=1100),
    *(
        Case(
            f"distance {distance.value}",
            "the distance" + ("; vectors to float32's rounding" if rounding else ""),
            {"vectors_config": params(distance=distance)},
            places=LOCAL,
            rounding=rounding,
        )
        for distance, rounding in (
            (models.Distance.COSINE, 3e-7),
            (models.Distance.DOT, 0.0),
            (models.Distance.EUCLID, 0.0),
            (models.Distance.MANHATTAN, 0.0),
        )
    ),
    Case(
        "HNSW settings",
        "collection-wide and of each vector",
        {
            "vectors_config": params(
                hnsw_config=models.HnswConfigDiff(m=24, on_disk=True, payload_m=8)
            ),
            "hnsw_config": models.HnswConfigDiff(
                m=12, ef_construct=77, full_scan_threshold=500, max_indexing_threads=2, payload_m=4
            ),
        },
    ),
    _quantised(
        "scalar",
        models.ScalarQuantization(
            scalar=models.ScalarQuantizationConfig(
                type=models.ScalarType.INT8, quantile=0.75, always_ram=True
            )
        ),
    ),
    _quantised(
        "product",
        models.ProductQuantization(
            product=models.ProductQuantizationConfig(
                compression=models.CompressionRatio.X16, always_ram=False
            )
        ),
    ),
    _quantised(
        "binary",
        models.BinaryQuantization(
            binary=models.BinaryQuantizationConfig(
                always_ram=True, encoding=models.BinaryQuantizationEncoding.TWO_BITS
            )
        ),
    ),
    Case(
        "optimiser and WAL settings",
        "all",
        {
            "optimizers_config": models.OptimizersConfigDiff(
                deleted_threshold=0.3,
                vacuum_min_vector_number=1500,
                default_segment_number=3,
                indexing_threshold=12345,
                flush_interval_sec=7,
            ),
            "wal_config": models.WalConfigDiff(wal_capacity_mb=16, wal_segments_ahead=1),
        },
    ),
    Case(
        "on-disk flags",
        "of vectors, HNSW, payloads",
        {
            "vectors_config": params(on_disk=True),
            "hnsw_config": models.HnswConfigDiff(on_disk=True),
            "on_disk_payload": False,
        },
    ),
    Case(
        "shard number, replication and write consistency factors, read fan-out",
        "all",
        {"shard_number": 3, "replication_factor": 2, "write_consistency_factor": 2},
        change={
            "collection_params": models.CollectionParamsDiff(
                read_fan_out_factor=1, read_fan_out_delay_ms=50
            )
        },
    ),
    Case(
        "custom shard keys",
        "keys, shards of each, and the key of each point",
        {"sharding_method": models.ShardingMethod.CUSTOM, "shard_number": 2},
        shard_keys=("europe", "asia", 7),
    ),
    Case(
        "payload indexes",
        "all parameters: text, keyword, integer, float, datetime, geo, bool, uuid",
        indexes={
            "text": _TEXT,
            "city": models.KeywordIndexParams(
                type=models.KeywordIndexType.KEYWORD, is_tenant=True, on_disk=True
            ),
            "n": models.IntegerIndexParams(
                type=models.IntegerIndexType.INTEGER, lookup=False, range=True, is_principal=True
            ),
            "price": models.FloatIndexParams(type=models.FloatIndexType.FLOAT, on_disk=True),
            "at": models.DatetimeIndexParams(
                type=models.DatetimeIndexType.DATETIME, is_principal=False
            ),
            "place": models.GeoIndexParams(type=models.GeoIndexType.GEO, on_disk=True),
            "flag": models.BoolIndexParams(type=models.BoolIndexType.BOOL, on_disk=False),
            "key": models.UuidIndexParams(type=models.UuidIndexType.UUID, is_tenant=False),
            "plain": models.PayloadSchemaType.KEYWORD,
        },
    ),
    Case(
        "strict mode",
        "all limits; set once the target is whole",
        change={
            "strict_mode_config": models.StrictModeConfig(
                enabled=True,
                max_query_limit=300,
                unindexed_filtering_retrieve=True,
                search_max_hnsw_ef=256,
                upsert_max_batchsize=50,
                filter_max_conditions=9,
            )
        },
    ),
    Case(
        "metadata",
        "all, beside vecmigrate's own",
        {"metadata": {"owner": {"team": "search"}, "tags": ["a", 1]}},
        places=LOCAL,
    ),
    Case(
        "float16 vectors",
        "the type",
        {"vectors_config": params(datatype=models.Datatype.FLOAT16)},
        places=LOCAL,
    ),
    Case(
        "other dense vectors",
        "unchanged, with distance, type and settings of their own",
        {
            "vectors_config": {
                "title": params(),
                "image": params(5, distance=models.Distance.EUCLID, on_disk=True),
                "half": params(6, datatype=models.Datatype.FLOAT16),
                "bytes": params(datatype=models.Datatype.UINT8),
            }
        },
        lambda row: {
            "title": dense(row),
            "image": dense(row + 1, 5),
            "half": dense(row + 2, 6),
            "bytes": whole(row),
        },
        option="vector=title",
        places=LOCAL,
    ),
    Case(
        "sparse vectors",
        "unchanged, with index and modifier",
        {
            "vectors_config": params(),
            "sparse_vectors_config": {
                "bm25": models.SparseVectorParams(
                    modifier=models.Modifier.IDF,
                    index=models.SparseIndexParams(on_disk=True, full_scan_threshold=99),
                )
            },
        },
        lambda row: {"": dense(row), "bm25": sparse(row)},
        places=LOCAL,
    ),
    Case(
        "multivectors beside the chosen vector",
        "unchanged, with comparator",
        {"vectors_config": {"text": params(), "tokens": params(4, multivector_config=_MAX_SIM)}},
        lambda row: {"text": dense(row), "tokens": tokens(row, 4)},
        places=LOCAL,
    ),
    Case(
        "a chosen multivector, as of ColBERT",
        "each vector of a point is translated, in their order",
        {"vectors_config": {"text": params(), "tokens": params(multivector_config=_MAX_SIM)}},
        lambda row: {"text": dense(row), "tokens": tokens(row)},
        option="vector=tokens",
        places=LOCAL,
    ),
    Case(
        "points without the chosen vector",
        "copied with what else they have",
        {
            "vectors_config": {"text": params(), "image": params(5)},
            "sparse_vectors_config": {"bm25": models.SparseVectorParams()},
        },
        lambda row: {
            **({"text": dense(row)} if row % 3 else {}),
            **({"image": dense(row, 5)} if row % 2 else {}),
            **({"bm25": sparse(row)} if row % 5 else {}),
        },
        option="vector=text",
        places=LOCAL,
    ),
    Case(
        "points without their only vector",
        "id and payload",
        vectors=lambda row: {"": dense(row)} if row % 4 else {},
        places=LOCAL,
    ),
]


@dataclass(frozen=True)
class Row:
    """What needs a test of its own, named ``test``, in test_feature_rules.py."""

    feature: str
    outcome: str
    says: str
    test: str


OTHERS = [
    Row(
        "uint8 vectors, the chosen one",
        LOSSY,
        "stored as float32, since translations are no whole numbers; a note says so",
        "test_bytes_become_float32",
    ),
    Row(
        "a server's collection to embedded storage",
        LOSSY,
        "points whole; HNSW, quantisation, optimiser, strict mode and payload indexes have no "
        "place there, a note names them",
        "test_a_server_to_embedded_storage",
    ),
    Row(
        "shard keys to embedded storage",
        REFUSED,
        "since an id is unique within its key only",
        "test_shard_keys_to_embedded_storage",
    ),
    Row(
        "embedded storage to a server",
        LOSSY,
        "points whole; what embedded storage never knew is as the server has it by default, a "
        "note says so",
        "test_embedded_storage_to_a_server",
    ),
    Row(
        "named vectors to another store",
        LOSSY,
        "only the chosen vector is copied, a note names the others; points without it stop the "
        "run, or are left out and listed with `--on-bad-vector skip`",
        "test_named_vectors_to_another_store",
    ),
    Row(
        "named vectors in `vecmigrate sync`",
        KEPT,
        "changed ones too; points without the chosen vector are left as they are",
        "test_sync_keeps_the_other_vectors",
    ),
    Row(
        "shard keys in `vecmigrate sync`",
        KEPT,
        "a point that moved to another key is removed from its old one",
        "test_sync_moves_a_point_between_shard_keys",
    ),
    Row(
        "a killed migration with named vectors",
        KEPT,
        "continued as any other",
        "test_resume_keeps_the_other_vectors",
    ),
    Row(
        "other vectors in `vecmigrate verify`",
        KEPT,
        "those of the sample are compared with the source's; an outcome of their own",
        "test_verify_compares_the_other_vectors",
    ),
    Row(
        "a chosen multivector in `vecmigrate verify`",
        KEPT,
        "each vector of the sample's points is compared; the index is not searched",
        "test_verify_compares_each_vector_of_a_multivector",
    ),
    Row(
        "a multivector to another store, or in `sync`, `anchors`",
        REFUSED,
        "by the vector's name",
        "test_where_multivectors_are_refused",
    ),
    Row(
        "a sparse vector as the chosen one",
        REFUSED,
        "by its name, with those that can be chosen",
        "test_a_sparse_vector_is_not_translated",
    ),
    Row(
        "a target vector with the name of another one that is copied",
        REFUSED,
        "before anything is made",
        "test_a_name_that_another_vector_has",
    ),
    Row(
        "aliases",
        KEPT,
        "where they are: `vecmigrate cutover` moves them",
        "test_aliases_stay",
    ),
]
