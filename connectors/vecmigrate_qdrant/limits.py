"""A collection's own limits, its strict mode: what a request may ask, and which limit refused one.

Checked against Qdrant 1.18.3. A rate limit is a bucket of as many tokens as it allows a minute, for
each shard and replica; what costs more than the whole bucket is refused for ever.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

from qdrant_client import models


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a collection's strict mode allows; None, or True, if it does not limit.

    Only what requests are cut to: none names a time-out, ``hnsw_ef`` or oversampling of its own.

    Attributes
    ----------
    max_query_limit
        Points that one scroll or one query may give; a ``retrieve`` is not held to it.
    search_max_batchsize
        Queries in one request.
    search_allow_exact
        False refuses exact queries, and exact counts with them.
    upsert_max_batchsize
        Points in one upsert or update of vectors.
    read_rate_limit, write_rate_limit
        Tokens a minute. A scroll, a count and a query cost 1, each and for each condition of its
        filter; a ``retrieve`` and a write cost 1 a point (the first write to a new collection 2).
    """

    max_query_limit: int | None = None
    search_max_batchsize: int | None = None
    search_allow_exact: bool = True
    upsert_max_batchsize: int | None = None
    read_rate_limit: int | None = None
    write_rate_limit: int | None = None

    @classmethod
    def of(cls, info: models.CollectionInfo) -> Self:
        """Return the limits of a collection: none if its strict mode is off."""
        strict = info.config.strict_mode_config
        if strict is None or not strict.enabled:
            return cls()
        # A server, or a client, of another version may not know them all.
        said = {field.name: getattr(strict, field.name, None) for field in fields(cls)}
        return cls(**{name: value for name, value in said.items() if value is not None})

    def page_size(self, wanted: int) -> int:
        """Return how many of the points wanted one scroll, or one query, may give."""
        return _within(wanted, self.max_query_limit)

    def retrieve_size(self, wanted: int) -> int:
        """Return how many points one ``retrieve`` may ask for."""
        return _within(wanted, self.read_rate_limit)

    def upsert_size(self, wanted: int) -> int:
        """Return how many points one upsert, or update of vectors, may hold."""
        return _within(wanted, self.upsert_max_batchsize, self.write_rate_limit)

    def delete_size(self, wanted: int) -> int:
        """Return how many points one request may delete, or change the payload of, by id."""
        return _within(wanted, self.write_rate_limit)

    def search_size(self, wanted: int, conditions: int = 0) -> int:
        """Return how many queries one request may hold, each with so many conditions."""
        rate = self.read_rate_limit
        queries = None if rate is None else rate // (1 + conditions)
        return _within(wanted, self.search_max_batchsize, queries)

    @property
    def reads_by_scroll(self) -> bool:
        """True if scrolling is to be preferred: it costs a token a request, not one a point."""
        return self.read_rate_limit is not None


def _within(wanted: int, *limits: int | None) -> int:
    """Return ``wanted``, or the least of the limits if that is less; at least 1."""
    return max(1, min([wanted, *(limit for limit in limits if limit is not None)]))


@dataclass(frozen=True, slots=True)
class ReachedLimit:
    """A limit that a request was refused for, whichever points it held.

    Attributes
    ----------
    whose
        What is limited, with the setting's name, as the subject of a sentence.
    """

    whose: str
    remedy: str


_FREE = (
    "Free some there, or raise {} in the collection's strict mode (for new collections: in the "
    "node's storage.collection.strict_mode); the same command continues."
)
_FULL = {
    "No space left on device": "disk",
    "Out of memory, free": "memory",
    "Cannot allocate memory": "memory",
}
_SIZES = {
    "Max points count limit": "max_points_count",
    "Max vector storage size limit": "max_collection_vector_size_bytes",
    "Max payload storage size limit": "max_collection_payload_size_bytes",
}
_REQUESTS = {
    'for "limit"': "max_query_limit",
    'for "timeout"': "max_timeout",
    'for "upsert limit"': "upsert_max_batchsize",
    'for "update limit"': "upsert_max_batchsize",
    'for "search batch size"': "search_max_batchsize",
    'for "hnsw_ef"': "search_max_hnsw_ef",
    'for "oversampling"': "search_max_oversampling",
    "Exact search disabled": "search_allow_exact",
    "Index required but not found": "unindexed_filtering_retrieve or unindexed_filtering_update",
    "Filter condition limit reached": "filter_max_conditions",
    "Condition size limit reached": "condition_max_size",
    "Read rate limit exceeded, request larger": "read_rate_limit",
    "Write rate limit exceeded, request larger": "write_rate_limit",
}


_LIMITS = (
    (
        "the limit on the use of the node's disk ({})",
        _FREE,
        {"Disk usage is at": "max_disk_usage_percent"},
    ),
    (
        "the limit on the use of the node's memory ({})",
        _FREE,
        {"Resident memory usage is at": "max_resident_memory_percent"},
    ),
    (
        "the end of the node's {}",
        "Make room there, or give the node more; the same command continues.",
        _FULL,
    ),
    (
        "the limit on a collection's size ({})",
        "Raise {} in the collection's strict mode; the same command continues.",
        _SIZES,
    ),
    (
        "a limit of the collection's strict mode ({})",
        "Ask for less in one request, or change {} in the collection's strict mode.",
        _REQUESTS,
    ),
)
"""Each kind of limit, what to do about it, and what a server says that refuses a request for it."""


def limit_behind(said: str) -> ReachedLimit | None:
    """Return the limit that a server's refusal tells of; None if it tells of another thing."""
    for whose, remedy, texts in _LIMITS:
        for text, setting in texts.items():
            if text in said:
                return ReachedLimit(whose.format(setting), remedy.format(setting))
    return None
