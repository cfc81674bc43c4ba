"""Strict mode as a server enforces it: each request is held against its collection's limits.

The rules, the order in which they are checked and the sentences are those of Qdrant 1.18.3.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from qdrant_client import models

from support.qdrant.loopback.errors import RefusedError

STATS_EVERY = 32
"""The server looks at how large a collection is on one change of so many."""

Kind = models.PayloadSchemaType


class RateLimiter:
    """Tokens for one minute, which come back evenly."""

    def __init__(self, what: str, per_minute: int, pace: float) -> None:
        self._what = what
        self._capacity = self._tokens = float(per_minute)
        self._per_second = self._capacity / 60 * pace
        self._last = time.monotonic()

    def take(self, cost: int) -> None:
        if cost > self._capacity:
            raise RefusedError(
                429,
                f"Rate limiting exceeded: {self._what} rate limit exceeded, request larger than "
                "rate limiter capacity, please try to split your request",
            )
        now = time.monotonic()
        back = (now - self._last) * self._per_second
        self._tokens, self._last = min(self._capacity, self._tokens + back), now
        if self._tokens < cost:
            wait = math.ceil((cost - self._tokens) / self._per_second)
            raise RefusedError(
                429,
                f"Rate limiting exceeded: {self._what} rate limit exceeded: Operation requires "
                f"{cost} tokens but only {self._tokens:.1f} were available. Retry after {wait}s",
                retry_after=wait,
            )
        self._tokens -= cost


class Limits:
    """The limits of one collection; each of its shard keys has limiters of its own.

    Attributes
    ----------
    told
        What was set, whether it is switched on or not.
    strict
        What is in force.
    most_disk_percent
        ``max_disk_usage_percent``, which the client's models do not know.
    pace
        How much faster than a server's the minutes of the rates go by.
    """

    pace = 1.0

    def __init__(self) -> None:
        self.told: models.StrictModeConfig | None = None
        self.strict: models.StrictModeConfig | None = None
        self.most_disk_percent: int | None = None
        self._limiters: dict[tuple[str, Any], RateLimiter] = {}
        self._changes = 1
        self._size = 0

    def configure(self, strict: models.StrictModeConfig | None) -> None:
        """Take limits anew; rates begin with a full minute."""
        self.told = strict
        self.strict = strict if strict is not None and strict.enabled else None
        self._limiters = {}

    def read(self, key: Any, cost: int) -> None:
        """Pay for reading."""
        self._pay("Read", key, self.strict and self.strict.read_rate_limit, cost)

    def written(self, key: Any, points: int) -> None:
        """Pay for a change of points."""
        self._pay("Write", key, self.strict and self.strict.write_rate_limit, max(1, points))

    def _pay(self, what: str, key: Any, per_minute: int | None, cost: int) -> None:
        if per_minute is None:
            return
        limiter = self._limiters.get((what, key))
        if limiter is None:
            limiter = self._limiters[what, key] = RateLimiter(what, per_minute, self.pace)
        limiter.take(cost)

    def check_timeout(self, seconds: int | None) -> None:
        if self.strict is not None and seconds is not None:
            _at_most(seconds, self.strict.max_timeout, "timeout")

    def check_scroll(self, request: models.ScrollRequest, indexes: Indexes) -> None:
        if self.strict is None:
            return
        _at_most(10 if request.limit is None else request.limit, self.strict.max_query_limit)
        self._check_filter(request.filter, self.strict.unindexed_filtering_retrieve, indexes)

    def check_count(self, request: models.CountRequest, indexes: Indexes) -> None:
        if self.strict is None:
            return
        self._check_filter(request.filter, self.strict.unindexed_filtering_retrieve, indexes)
        self._check_exact(request.exact is not False)

    def check_queries(
        self, requests: Sequence[models.QueryRequest], indexes: Indexes, *, batch: bool
    ) -> None:
        if self.strict is None:
            return
        if batch:
            _at_most(len(requests), self.strict.search_max_batchsize, "search batch size")
        for request in requests:
            limit = 10 if request.limit is None else request.limit
            _at_most(limit, self.strict.max_query_limit)
            self._check_filter(request.filter, self.strict.unindexed_filtering_retrieve, indexes)
            if request.params is not None:
                self._check_search(request.params)

    def _check_search(self, params: models.SearchParams) -> None:
        assert self.strict is not None
        asked = params.quantization.oversampling if params.quantization else None
        _at_most(asked, self.strict.search_max_oversampling, "oversampling")
        _at_most(params.hnsw_ef, self.strict.search_max_hnsw_ef, "hnsw_ef")
        self._check_exact(bool(params.exact))

    def check_write(
        self,
        points: int | None,
        what: str,
        measured: Callable[[], int],
    ) -> None:
        """Check what takes room: ``points`` at once, and how large a collection is already."""
        if self.strict is not None:
            _at_most(points, self.strict.upsert_max_batchsize, what)
            self._check_size(measured)

    def check_node(self, disk_percent: int, memory_percent: int) -> None:
        """Check how full the node is."""
        limit = self.strict and self.strict.max_resident_memory_percent
        if limit is not None and memory_percent >= limit:
            raise _strict(
                f"Resident memory usage is at {memory_percent}% of total memory, exceeding the "
                f"configured limit of {limit}%",
                "Reduce memory usage (e.g. delete points or free segments) or raise "
                "`max_resident_memory_percent` in strict mode.",
            )
        limit = self.most_disk_percent
        if limit is not None and disk_percent >= limit:
            raise _strict(
                f"Disk usage is at {disk_percent}% of total capacity, exceeding the configured "
                f"limit of {limit}%",
                "Reduce disk usage (e.g. delete points or drop collections) or raise "
                "`max_disk_usage_percent` in strict mode.",
            )

    def _check_size(self, measured: Callable[[], int]) -> None:
        assert self.strict is not None
        limit = self.strict.max_collection_vector_size_bytes
        if limit is None:
            return
        if self._changes % STATS_EVERY == 0:
            self._size = measured()
        self._changes += 1
        if self._size >= limit:
            raise RefusedError(
                400,
                f"Bad request: Max vector storage size limit of {limit / 2**20:g}MB reached!",
            )

    def check_update_filter(self, wanted: models.Filter | None, indexes: Indexes) -> None:
        if self.strict is not None:
            self._check_filter(wanted, self.strict.unindexed_filtering_update, indexes)

    def _check_exact(self, exact: bool) -> None:
        if self.strict is not None and self.strict.search_allow_exact is False and exact:
            raise _strict("Exact search disabled!", "Set exact=false.")

    def _check_filter(
        self, wanted: models.Filter | None, unindexed: bool | None, indexes: Indexes
    ) -> None:
        if wanted is None or self.strict is None:
            return
        if unindexed is False:
            for key, accepted in _needed(wanted):
                if accepted and not _serves(indexes.get(key), accepted):
                    kinds = ", ".join(sorted({kind.value for kind in accepted}))
                    raise _strict(
                        f'Index required but not found for "{key}" of one of the following '
                        f"types: [{kinds}]",
                        "Create an index for this key or use a different filter.",
                    )
        most, count = self.strict.filter_max_conditions, conditions(wanted)
        if most is not None and count > most:
            raise _strict(
                f"Filter condition limit reached ({count} > {most})",
                "Reduce the amount of conditions of your filter.",
            )


Indexes = dict[str, models.PayloadIndexInfo]


def parts(wanted: models.Filter) -> Iterator[Any]:
    """The conditions of a filter, itself alone."""
    least = wanted.min_should.conditions if wanted.min_should else None
    for each in (wanted.must, wanted.must_not, wanted.should, least):
        if each is not None:
            yield from each if isinstance(each, list) else [each]


def conditions(wanted: models.Filter | None) -> int:
    """How many conditions a filter has, as rates and limits count them."""
    if wanted is None:
        return 0
    counted = 0
    for each in parts(wanted):
        if isinstance(each, models.NestedCondition):
            each = each.nested.filter
        counted += conditions(each) if isinstance(each, models.Filter) else 1
    return counted


def _at_most(value: float | None, limit: float | None, name: str = "limit") -> None:
    if value is not None and limit is not None and value > limit:
        raise _strict(
            f'Limit exceeded {value} > {limit} for "{name}"',
            f'Reduce the "{name}" parameter to or below {limit}.',
        )


def _strict(error: str, help: str) -> RefusedError:
    return RefusedError(400, f"Bad request: {error}. Help: {help}")


def _needed(wanted: models.Filter, prefix: str = "") -> Iterator[tuple[str, set[Kind]]]:
    """Each key of a filter, with the kinds of index that serve it; none for what needs none."""
    for each in parts(wanted):
        match each:
            case models.Filter():
                yield from _needed(each, prefix)
            case models.NestedCondition():
                yield from _needed(each.nested.filter, f"{prefix}{each.nested.key}[].")
            case models.IsEmptyCondition():
                yield prefix + each.is_empty.key, set(Kind)
            case models.IsNullCondition():
                yield prefix + each.is_null.key, set(Kind)
            case models.FieldCondition():
                yield prefix + each.key, _field_kinds(each)


def _field_kinds(condition: models.FieldCondition) -> set[Kind]:
    kinds: set[Kind] = set()
    match condition.match:
        case models.MatchValue(value=value):
            kinds |= _kinds_of([value])
        case models.MatchAny(any=values):
            kinds |= _kinds_of(values)
        case models.MatchExcept(except_=values):
            kinds |= _kinds_of(values)
        case models.MatchText() | models.MatchTextAny() | models.MatchPhrase():
            kinds.add(Kind.TEXT)
    if isinstance(condition.range, models.DatetimeRange):
        kinds.add(Kind.DATETIME)
    elif condition.range is not None:
        kinds |= {Kind.FLOAT, Kind.INTEGER}
    if condition.geo_bounding_box or condition.geo_radius or condition.geo_polygon:
        kinds.add(Kind.GEO)
    if (condition.values_count, condition.is_empty, condition.is_null) != (None, None, None):
        kinds |= set(Kind)
    return kinds


def _kinds_of(values: Sequence[Any]) -> set[Kind]:
    if not values:
        return set()
    if isinstance(values[0], bool):
        return {Kind.BOOL}
    if isinstance(values[0], int):
        return {Kind.INTEGER}
    return {Kind.KEYWORD, Kind.UUID} if all(map(_is_uuid, values)) else {Kind.KEYWORD}


def _is_uuid(value: str) -> bool:
    try:
        uuid.UUID(value)
    except ValueError:
        return False
    return True


def _serves(index: models.PayloadIndexInfo | None, accepted: set[Kind]) -> bool:
    return index is not None and index.data_type in accepted
