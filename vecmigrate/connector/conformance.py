"""Tests that any connector must pass; subclass :class:`ConnectorConformance` in your own tests.

.. code-block:: python

    from vecmigrate.connector.conformance import ConnectorConformance

    class TestMyStore(ConnectorConformance):
        def target_uri(self, tmp_path, name):
            return f"mystore:{tmp_path}/{name}"

pytest collects the subclass and runs each test against your connector, found by its entry point.
Needs pytest.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vecmigrate.connector import (
    CollectionDescription,
    ErasingConnector,
    LeasingConnector,
    LockedError,
    MismatchError,
    MissingIdsError,
    PartitionedSource,
    Source,
    TargetExistsError,
    UpdatableConnector,
    UsageError,
    VecmigrateError,
)
from vecmigrate.connector.addresses import canonical_uri, collection_of
from vecmigrate.connector.registry import (
    connector_of,
    find_switcher,
    hold,
    open_sink,
    open_source,
    open_updater,
    resume_sink,
)
from vecmigrate.connector.uri import parse_uri
from vecmigrate.points.batch import PointId, VectorBatch, Vectors, id_array
from vecmigrate.points.canonical import canonical_text, same_within
from vecmigrate.points.collection import EncoderIdentity, IdKind, Metric, Provenance, TargetSpec

DIMENSION = 12
INTEGERS: list[PointId] = [0, 7, 3, 2**40, 12, 5, 99, 8, 1000, 4]
UUIDS: list[PointId] = [f"5c56c793-69f3-4fbf-87e6-c4bf54c28c{n:02x}" for n in range(10)]
PAYLOADS: list[dict[str, Any]] = [
    {
        "text": f"the text of point {n}, é 漢字 🙂",
        "nested": {"list": [1, 2.5, None, {"deep": True}], "empty": {}},
        "count": n,
        "flag": n % 2 == 0,
        "id": "a field called id",
        "nothing": None,
    }
    for n in range(10)
]
WORDED: dict[str, list[str]] = {
    "time": [
        "2026-01-02T03:04:05", "2026-01-02T03:04:05.250000+01:00", "2026-01-02 03:04:05.000000",
        "2026-01-02T03:04:05Z", "2026-01-02 03:04:05.25+0100", "03:04:05.000", "2026-01-02",
    ],
    "number": ["12.50", "1E+3", "NaN", "0.10", "-0", "9" * 40],
    "uuid": ["5C56C793-69F3-4FBF-87E6-C4BF54C28C26", "5c56c79369f34fbf87e6c4bf54c28c26"],
}  # fmt: skip
"""What a store that knows such types may be tempted to spell otherwise."""
STRANGE: dict[str, dict[str, Any]] = {
    "no JSON": {"value": object()},
    "a lone surrogate": {"value": "\ud800"},
    "a lone surrogate in a name": {"\ud800": "value"},
    "NaN": {"value": float("nan"), "within": [float("nan")]},
    "infinity": {"value": float("inf"), "within": {"less": float("-inf")}},
    "beyond 64 bits": {"value": 2**64, "within": [-(2**70)]},
}


def _made(at: str = "2026-01-01") -> Provenance:
    """Return what a run of that time says of its target."""
    return Provenance(vecmigrate_version="0", source="faiss:old", created_at=at)


def _spec(**changes: Any) -> TargetSpec:
    return TargetSpec(**{"dimension": DIMENSION, "metric": Metric.COSINE, **changes})


SPEC = _spec()


class ConnectorConformance:
    """Subclass it, name the class ``Test…``, and say if a collection can be made."""

    id_kinds: tuple[str, ...] = ("integer", "uuid")
    """Kinds of ids that the store keeps."""

    metrics: tuple[Metric, ...] = (Metric.COSINE, Metric.DOT, Metric.EUCLID)
    """Metrics that the store offers."""

    where: str | None = None
    """A filter in the store's language that points pass whose field ``count`` is less than 5."""

    leased: bool = True
    """False if two runs may be at work on a target at once, since the store holds no lease."""

    def target_uri(self, tmp_path: Path, name: str) -> str:
        """Return the URI of a collection that does not exist yet."""
        raise NotImplementedError

    @pytest.fixture(params=["integer", "uuid"])
    def batch(self, request: pytest.FixtureRequest) -> VectorBatch:
        """Ten points of unit length, with payloads."""
        if request.param not in self.id_kinds:
            pytest.skip(f"this store has no {request.param} ids")
        return self._points(INTEGERS if request.param == "integer" else UUIDS)

    @pytest.fixture
    def uri(self, tmp_path: Path) -> str:
        """Where a collection is to be made."""
        return self.target_uri(tmp_path, "collection")

    def _points(self, ids: list[PointId]) -> VectorBatch:
        vectors = np.random.default_rng(0).standard_normal((len(ids), DIMENSION))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return VectorBatch(id_array(ids), vectors.astype(np.float32), PAYLOADS[: len(ids)])

    def _write(self, uri: str, *batches: VectorBatch, **spec: Any) -> None:
        with open_sink(uri, _spec(**spec)) as sink:
            for batch in batches:
                sink.write(batch)
            sink.finish()

    def _read(self, uri: str, size: int = 4, cursor: str | None = None) -> list[VectorBatch]:
        with open_source(uri) as source:
            return _copies(source.batches(size, cursor=cursor))

    def test_points_come_back_whole(self, uri: str, batch: VectorBatch) -> None:
        self._write(uri, batch)
        found = _by_id(self._read(uri))
        assert found.keys() == set(batch.ids.tolist())
        for row, point_id in enumerate(batch.ids.tolist()):
            vector, payload = found[point_id]
            np.testing.assert_allclose(vector, batch.vectors[row], rtol=0, atol=1e-6)
            assert payload == PAYLOADS[row]

    def test_description_tells_what_was_asked_for(self, uri: str, batch: VectorBatch) -> None:
        encoder = EncoderIdentity(name="new", dimension=DIMENSION, normalized=True)
        provenance = _made("2026-01-01T00:00:00+00:00").model_copy(update={"encoder": encoder})
        self._write(uri, batch, provenance=provenance)
        with open_source(uri) as source:
            description = source.describe()
        assert (description.count, description.dimension) == (10, DIMENSION)
        assert description.metric is Metric.COSINE
        assert description.text_field == "text"
        assert set(PAYLOADS[0]) <= set(description.payload_fields)
        assert description.provenance == provenance
        integer = batch.ids.dtype == np.int64
        assert description.id_kind is (IdKind.INTEGER if integer else IdKind.UUID)

    def test_the_order_of_maps_and_lists_does_not_count(
        self, tmp_path: Path, batch: VectorBatch
    ) -> None:
        one, other = (self.target_uri(tmp_path, name) for name in ("one", "other"))
        self._write(one, batch)
        self._write(other, batch.with_payloads([_shuffled(p, 1) for p in batch.each_payload()]))
        assert _contents(self._read(one)) == _contents(self._read(other))
        with open_source(one) as source:
            described, fingerprint = source.describe(), source.fingerprint()
        for seed in range(5):
            with open_source(one) as source:
                assert source.fingerprint() == fingerprint
                again = source.describe()
            shuffled = CollectionDescription.model_validate(
                _shuffled(again.model_dump(mode="json"), seed, lists=True)
            )
            assert shuffled.fingerprint() == described.fingerprint()

    def test_floats_of_payloads_are_as_exact_as_the_store_declares(
        self, uri: str, batch: VectorBatch
    ) -> None:
        rng = np.random.default_rng(7)
        bits = rng.integers(0, 2**63, (len(batch), 200), dtype=np.int64).view(np.float64)
        numbers = np.concatenate([rng.random((len(batch), 200)), bits], axis=1)
        numbers[~np.isfinite(numbers)] = 0.1
        numbers[:, :4] = 2.0**-1022, 5e-324, -1.7976931348623157e308, 9007199254740993.0
        given = [{"numbers": row.tolist(), "n": n} for n, row in enumerate(numbers)]
        self._write(uri, batch.with_payloads(given))
        with open_source(uri) as source:
            ulps = source.payload_ulps()
        found = _by_id(self._read(uri))
        for point_id, payload in zip(batch.ids.tolist(), given, strict=True):
            assert same_within(payload, found[point_id][1], ulps)

    @pytest.mark.parametrize("name", WORDED)
    def test_text_stays_the_text_that_it_is(self, uri: str, batch: VectorBatch, name: str) -> None:
        """Dates, times, decimals and UUIDs are text in a payload, whatever it looks like."""
        given = [{name: text, "within": [{name: text}]} for text in WORDED[name]]
        given += [{} for _ in range(len(batch) - len(given))]
        self._write(uri, batch.with_payloads(given))
        found = _by_id(self._read(uri))
        assert [found[i][1] for i in batch.ids.tolist()] == given

    @pytest.mark.parametrize("name", STRANGE)
    def test_what_json_cannot_hold_is_kept_or_refused(
        self, uri: str, batch: VectorBatch, name: str
    ) -> None:
        payload = STRANGE[name]
        given = batch.with_payloads([payload, *({} for _ in batch.ids[1:])])
        try:
            self._write(uri, given)
        except VecmigrateError:
            return
        # By text, since no NaN is another.
        found = _by_id(self._read(uri))[batch.ids[0]][1]
        assert str(sorted(found.items())) == str(sorted(payload.items()))

    def test_every_metric_is_kept(self, tmp_path: Path) -> None:
        for metric in self.metrics:
            uri = self.target_uri(tmp_path, f"collection-{metric.value}")
            self._write(uri, self._points(INTEGERS), metric=metric)
            with open_source(uri) as source:
                assert source.describe().metric is metric

    def test_batches_are_bounded_and_each_point_comes_once(
        self, uri: str, batch: VectorBatch
    ) -> None:
        self._write(uri, batch)
        batches = self._read(uri, size=3)
        assert all(0 < len(b) <= 3 for b in batches)
        assert sorted(map(str, _ids(batches))) == sorted(map(str, batch.ids.tolist()))

    def test_points_are_the_batches_with_all_that_is_kept(
        self, uri: str, batch: VectorBatch
    ) -> None:
        self._write(uri, batch)
        batches = self._read(uri, size=3)
        with open_source(uri) as source:
            points = [b for b in source.whole_batches(3) if len(b)]
            assert _ids(points) == _ids(batches)
            for part, same in zip(points, batches, strict=True):
                np.testing.assert_array_equal(part.with_one_vector().vectors, same.vectors)
                assert [dict(p) for p in part.each_payload()] == [
                    dict(p) for p in same.each_payload()
                ]
            rest = source.whole_batches(2, cursor=batches[0].cursor)
            assert _ids(list(rest)) == _ids(batches[1:])

    def test_a_cursor_continues_where_its_batch_ended(self, uri: str, batch: VectorBatch) -> None:
        self._write(uri, batch)
        batches = self._read(uri, size=3)
        for done, part in enumerate(batches, start=1):
            assert part.cursor is not None
            rest = self._read(uri, size=2, cursor=part.cursor)
            assert _ids(rest) == _ids(batches[done:])

    def test_partitions_are_the_batches_read_apart(self, uri: str, batch: VectorBatch) -> None:
        """Where the source has partitions: disjoint, complete, the same again."""
        self._write(uri, batch)
        tokens = _partitions(uri, None)
        assert len(set(tokens)) == len(tokens) > 0
        assert _partitions(uri, None) == tokens
        apart = [part for token in tokens for part in _read_partition(uri, token)]
        together = self._read(uri, size=1)
        assert list(map(_plain, apart)) == list(map(_plain, together))
        for done, part in enumerate(together, start=1):
            left = _partitions(uri, part.cursor)
            assert set(left[1:]) <= set(tokens)
            rest = [part for token in left for part in _read_partition(uri, token)]
            assert list(map(_plain, rest)) == list(map(_plain, together[done:]))

    def test_a_foreign_partition_is_refused(self, uri: str, batch: VectorBatch) -> None:
        self._write(uri, batch)
        assert _partitions(uri, None)
        for token in ("not a partition of mine", "[]", "null"):
            with pytest.raises(UsageError):
                _read_partition(uri, token)

    def test_a_foreign_cursor_is_refused(self, uri: str, batch: VectorBatch) -> None:
        self._write(uri, batch)
        with pytest.raises(UsageError):
            self._read(uri, cursor="not a cursor of mine")

    def test_payloads_can_be_left_out(self, uri: str, batch: VectorBatch) -> None:
        self._write(uri, batch)
        with open_source(uri) as source:
            assert all(b.payloads is None for b in source.batches(4, payloads=False))

    def test_fetch_keeps_the_order_asked_for(self, uri: str, batch: VectorBatch) -> None:
        self._write(uri, batch)
        wanted = [batch.ids.tolist()[i] for i in (8, 0, 5)]
        with open_source(uri) as source:
            fetched = source.fetch(wanted)
            assert fetched.ids.tolist() == wanted
            np.testing.assert_allclose(fetched.vectors, batch.vectors[[8, 0, 5]], atol=1e-6)
            assert fetched.payloads is not None
            assert [dict(p) for p in fetched.payloads] == [PAYLOADS[i] for i in (8, 0, 5)]
            assert source.texts(wanted) == [PAYLOADS[i]["text"] for i in (8, 0, 5)]

    def test_fetch_names_ids_that_are_missing(self, uri: str, batch: VectorBatch) -> None:
        self._write(uri, batch)
        absent: PointId = 31337 if batch.ids.dtype == np.int64 else str(UUIDS[0])[:-2] + "ff"
        with open_source(uri) as source, pytest.raises(MissingIdsError, match=str(absent)):
            source.fetch([batch.ids.tolist()[0], absent])

    def test_fetch_takes_an_id_twice_and_ids_that_it_cannot_have(
        self, uri: str, batch: VectorBatch
    ) -> None:
        self._write(uri, batch)
        first = batch.ids.tolist()[0]
        strange: PointId = UUIDS[0] if batch.ids.dtype == np.int64 else 31337
        with open_source(uri) as source:
            twice = source.fetch([first, batch.ids.tolist()[1], first])
            np.testing.assert_allclose(twice.vectors, batch.vectors[[0, 1, 0]], atol=1e-6)
            with pytest.raises(MissingIdsError, match=str(strange)):
                source.fetch([strange])

    def test_a_source_is_read_in_another_thread_than_it_was_opened(
        self, uri: str, batch: VectorBatch
    ) -> None:
        self._write(uri, batch)
        with open_source(uri) as source, ThreadPoolExecutor(1) as thread:
            reading = thread.submit(lambda: [len(b) for b in source.batches(4)])
            assert sum(reading.result()) == len(batch)

    def test_what_is_over_can_be_ended_again(self, uri: str, batch: VectorBatch) -> None:
        sink = open_sink(uri, SPEC)
        sink.write(batch)
        sink.abort()
        sink.abort()
        with open_sink(uri, SPEC) as sink:
            sink.write(batch)
            sink.finish()
            sink.abort()
        source = open_source(uri)
        assert source.describe().count == len(batch)
        source.close()
        source.close()

    def test_a_search_finds_the_point_that_was_asked_for(
        self, uri: str, batch: VectorBatch
    ) -> None:
        self._write(uri, batch)
        with open_source(uri) as source:
            found = source.search(batch.vectors, 3)
            if found is None:
                pytest.skip("this connector searches no index")
            assert [ids.tolist()[0] for ids in found] == batch.ids.tolist()
            assert all(len(set(ids.tolist())) == 3 for ids in found)

    def test_the_nearest_points_come_whole(self, uri: str, batch: VectorBatch) -> None:
        self._write(uri, batch)
        with open_source(uri) as source:
            for k in (3, len(batch) + 1):
                found = _nearest(source, batch.vectors, k)
                searched = source.search(batch.vectors, k)
                assert searched is not None
                assert [b.ids.tolist() for b in found] == [ids.tolist() for ids in searched]
            for points in found:
                fetched = source.fetch(points.ids)
                np.testing.assert_array_equal(points.vectors, fetched.vectors)
                assert _payloads(points) == _payloads(fetched)
            assert _nearest(source, batch.vectors[:0], 3) == []

    def test_of_an_empty_collection_nothing_is_nearest(self, uri: str, batch: VectorBatch) -> None:
        self._write(uri)
        with open_source(uri) as source:
            assert [len(points) for points in _nearest(source, batch.vectors[:2], 3)] == [0, 0]

    def test_only_points_that_pass_a_filter_are_nearest(self, uri: str, batch: VectorBatch) -> None:
        """Where the store filters; what is no filter of the store is refused by all."""
        self._write(uri, batch)
        with open_source(uri) as source:
            _nearest(source, batch.vectors, 3)
            for wrong in ("no filter (of any store", "", "[]"):
                with pytest.raises(UsageError):
                    source.nearest(batch.vectors, 3, where=wrong)
            if self.where is None:
                return
            found = _nearest(source, batch.vectors, len(batch), self.where)
        passing = sorted(map(str, batch.ids.tolist()[:5]))
        assert [sorted(map(str, points.ids.tolist())) for points in found] == [passing] * len(batch)
        assert all(payload["count"] < 5 for points in found for payload in _payloads(points))

    def test_several_threads_search_where_the_source_allows_it(
        self, uri: str, batch: VectorBatch
    ) -> None:
        self._write(uri, batch)
        with open_source(uri) as source:
            if not source.thread_safe:
                pytest.skip("one thread at a time may use this store's sources")

            def ask(row: int) -> tuple[Any, ...]:
                [points] = _nearest(source, batch.vectors[row : row + 1], 5)
                return _plain(points), _plain(source.fetch(points.ids[::-1].copy()))

            with ThreadPoolExecutor(8) as threads:
                found = list(threads.map(ask, list(range(len(batch))) * 10))
            assert found == [ask(row) for row in range(len(batch))] * 10

    def test_ids_are_all_ids(self, uri: str, batch: VectorBatch) -> None:
        self._write(uri, batch)
        with open_source(uri) as source:
            for told in (source.ids(4), source.ids_with_vector(4)):
                listed = [i for ids in told for i in ids.tolist()]
                assert sorted(map(str, listed)) == sorted(map(str, batch.ids.tolist()))

    def test_an_id_written_again_replaces_what_it_had(self, uri: str, batch: VectorBatch) -> None:
        again = batch.take(np.array([2]))
        again = VectorBatch(again.ids, -again.vectors, [{"text": "the second text here"}])
        self._write(uri, batch, again)
        found = _by_id(self._read(uri))
        assert len(found) == len(batch)
        vector, payload = found[batch.ids.tolist()[2]]
        np.testing.assert_allclose(vector, -batch.vectors[2], atol=1e-6)
        assert payload == {"text": "the second text here"}

    def test_a_target_says_as_of_when_it_is(self, uri: str, batch: VectorBatch) -> None:
        made, seen = _made(), "2026-03-03T12:00:00+00:00"
        with open_sink(uri, _spec(provenance=made)) as sink:
            sink.write(batch)
            sink.as_of = seen
            sink.finish()
        with open_source(uri) as source:
            found = source.describe().provenance
            assert found == made.model_copy(update={"updated_at": seen})
            assert found.run() == made.run()
            assert len(list(source.ids(10))) > 0

    def test_a_sink_takes_points_out_again(self, uri: str, batch: VectorBatch) -> None:
        with open_sink(uri, SPEC) as sink:
            sink.write(batch)
            if not sink.deletes:
                with pytest.raises(NotImplementedError):
                    sink.delete(batch.ids[:1])
                return
            sink.delete(batch.ids[[0, 3]])
            sink.delete(batch.ids[[0]])
            sink.write(batch.take(np.array([3])))
            assert sink.finish().count == len(batch) - 1
        assert _by_id(self._read(uri)).keys() == set(batch.ids.tolist()[1:])

    def test_points_without_payloads(self, uri: str, batch: VectorBatch) -> None:
        self._write(uri, VectorBatch(batch.ids, batch.vectors))
        found = _by_id(self._read(uri))
        assert len(found) == len(batch)
        assert all(payload == {} for _, payload in found.values())

    def test_points_of_a_finished_collection_change(self, uri: str, batch: VectorBatch) -> None:
        """Where the connector changes finished collections."""
        made = _made()
        if not isinstance(connector_of(uri)[0], UpdatableConnector):
            pytest.skip("this connector changes no finished collection")
        kept, new = batch.take(np.arange(6)), batch.take(np.arange(6, 10))
        self._write(uri, kept, provenance=made)
        with open_updater(uri, made):
            pass
        assert len(_ids(self._read(uri))) == 6
        later = made.model_copy(update={"updated_at": "2026-02-02"})
        with open_updater(uri, later) as updater:
            changed = batch.take(np.array([2]))
            updater.upsert(VectorBatch(changed.ids, -changed.vectors, [{"text": "another text"}]))
            updater.upsert(new)
            updater.delete(batch.ids[[0, 6]])
            updater.delete(batch.ids[[0]])
            described = updater.finish()
        assert described.count == 8
        assert described.provenance == later
        found = _by_id(self._read(uri))
        ids = batch.ids.tolist()
        assert found.keys() == {i for row, i in enumerate(ids) if row not in (0, 6)}
        for row, point_id in enumerate(ids):
            if row in (0, 6):
                continue
            sign = -1 if row == 2 else 1
            np.testing.assert_allclose(found[point_id][0], sign * batch.vectors[row], atol=1e-6)
            expected = {"text": "another text"} if row == 2 else PAYLOADS[row]
            assert found[point_id][1] == expected
        with open_updater(uri, later) as updater, pytest.raises(MismatchError):
            updater.upsert(VectorBatch(batch.ids, np.ones((10, DIMENSION + 1), np.float32)))
        assert len(_ids(self._read(uri))) == 8

    def test_what_is_deleted_is_overwritten_or_what_keeps_it_is_named(
        self, uri: str, tmp_path: Path, batch: VectorBatch
    ) -> None:
        connector, parsed = connector_of(uri)
        if not isinstance(connector, ErasingConnector):
            pytest.skip("this connector does not tell what is left of deleted points")
        made, text = _made(), "a text that stands nowhere else"
        payloads = [{"text": text}, *PAYLOADS[1:]]
        self._write(uri, VectorBatch(batch.ids, batch.vectors, payloads), provenance=made)
        with open_updater(uri, made) as updater:
            updater.delete(batch.ids[[0]])
            updater.finish()
        kept = connector.erase_deleted(parsed)
        assert len(_ids(self._read(uri))) == len(batch) - 1
        assert all(each.place and each.remedy.endswith(".") for each in kept)
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert kept or not [path for path in files if text.encode() in path.read_bytes()]
        assert connector.erase_deleted(parsed) == kept

    def test_nothing_is_published_before_finish(self, uri: str, batch: VectorBatch) -> None:
        with open_sink(uri, SPEC) as sink:
            sink.write(batch)
        with pytest.raises(VecmigrateError):
            self._read(uri)
        self._write(uri, batch)
        assert len(_ids(self._read(uri))) == len(batch)

    def test_an_unfinished_target_is_continued_from_its_checkpoint(
        self, tmp_path: Path, uri: str, batch: VectorBatch
    ) -> None:
        """Where sinks give checkpoints: what came after one is written again."""
        first, last = (batch.take(np.arange(*rows)) for rows in ((0, 6), (6, 10)))
        with open_sink(uri, SPEC) as sink:
            sink.write(first)
            token = sink.checkpoint()
            if token is None:
                pytest.skip("this store's sinks give no checkpoints")
            sink.write(last)
            sink.suspend()
        with resume_sink(uri, SPEC, token) as sink:
            sink.write(last)
            sink.finish()
        whole = _by_id(self._read(uri))
        assert len(whole) == len(batch)
        uninterrupted = self.target_uri(tmp_path, "uninterrupted")
        self._write(uninterrupted, batch)
        assert str(whole) == str(_by_id(self._read(uninterrupted)))
        with pytest.raises(TargetExistsError):
            resume_sink(uri, SPEC, token)

    def test_a_run_begins_anew_what_it_left_itself(self, uri: str, batch: VectorBatch) -> None:
        """Where sinks give checkpoints: killed before the first was known; nobody else may."""
        mine, another = (
            SPEC.model_copy(update={"provenance": _made(day)})
            for day in ("2026-01-01", "2026-01-02")
        )
        with open_sink(uri, mine) as sink:
            sink.write(batch)
            if sink.checkpoint() is None:
                pytest.skip("this store's sinks give no checkpoints")
            sink.suspend()
        with pytest.raises(TargetExistsError):
            open_sink(uri, another)
        with open_sink(uri, mine) as sink:
            sink.write(batch.take(np.arange(3)))
            sink.finish()
        assert len(_ids(self._read(uri))) == 3

    def test_a_foreign_checkpoint_is_refused(self, uri: str, batch: VectorBatch) -> None:
        """Where sinks give checkpoints: what is there can still be continued by its own."""
        spec = _spec(provenance=_made())
        with open_sink(uri, spec) as sink:
            sink.write(batch)
            token = sink.checkpoint()
            if token is None:
                pytest.skip("this store's sinks give no checkpoints")
            sink.suspend()
        with pytest.raises(MismatchError):
            resume_sink(uri, spec, "not a checkpoint of mine")
        with resume_sink(uri, spec, token) as sink:
            assert sink.finish().count == len(batch)

    def test_one_run_at_a_time_writes_a_target(self, uri: str, batch: VectorBatch) -> None:
        if not self.leased:
            pytest.skip("this store holds no lease")
        with open_sink(uri, SPEC) as sink:
            for restart in (False, True):
                with pytest.raises(LockedError):
                    open_sink(uri, SPEC, restart=restart)
            sink.write(batch)
            sink.finish()
        assert len(_ids(self._read(uri))) == len(batch)

    def test_one_run_at_a_time_changes_a_collection(self, uri: str, batch: VectorBatch) -> None:
        """Where the connector changes finished collections, and holds leases on them."""
        connector, _ = connector_of(uri)
        if not (self.leased and isinstance(connector, UpdatableConnector)):
            pytest.skip("this connector changes no finished collection, or holds no lease")
        assert isinstance(connector, LeasingConnector)
        made = _made()
        self._write(uri, batch.take(np.arange(6)), provenance=made)
        with open_updater(uri, made) as updater:
            with pytest.raises(LockedError):
                open_updater(uri, made)
            with pytest.raises(LockedError), hold(uri):
                pass
            updater.upsert(batch.take(np.arange(6, 8)))
            assert updater.finish().count == 8
        for _ in range(2):
            # What a run holds it changes, and nobody else does.
            with hold(uri), open_updater(uri, made) as updater:
                updater.upsert(batch.take(np.arange(8, 10)))
                with ThreadPoolExecutor(1) as another, pytest.raises(LockedError):
                    another.submit(open_updater, uri, made).result()
                assert updater.finish().count == len(batch)

    def test_a_finished_target_is_never_replaced(self, uri: str, batch: VectorBatch) -> None:
        self._write(uri, batch)
        for restart in (False, True):
            with pytest.raises(TargetExistsError):
                open_sink(uri, SPEC, restart=restart)
        assert len(_ids(self._read(uri))) == len(batch)

    def test_a_collection_has_one_name_from_any_directory(
        self, tmp_path: Path, uri: str, batch: VectorBatch, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """By it jobs, locks and records are found again; if locations are paths."""
        self._write(uri, batch)
        name, key = collection_of(uri), canonical_uri(uri)
        assert collection_of(name) == name
        assert collection_of(self.target_uri(tmp_path, "another")) != name
        (tmp_path / "below").mkdir()
        for here, up in (("below", "../"), (".", "")):
            monkeypatch.chdir(tmp_path / here)
            near = uri.replace(f"{tmp_path}/", up)
            if near == uri or not _opens(near):
                pytest.skip("this store's locations are no paths")
            assert (collection_of(near), canonical_uri(near)) == (name, key)
        monkeypatch.chdir(tmp_path / "below")
        assert collection_of(near) != name

    def test_readers_are_led_from_one_collection_to_another(
        self, tmp_path: Path, batch: VectorBatch
    ) -> None:
        name, old, new = (self.target_uri(tmp_path, n) for n in ("live", "old", "new"))
        switcher = find_switcher(name)
        if switcher is None:
            pytest.skip("this connector moves no readers")
        live, first, second = map(parse_uri, (name, old, new))
        self._write(old, batch)
        self._write(new, batch.take(np.arange(4)))
        assert switcher.current(live) is None
        assert switcher.keep(live) is None
        for uri, count in ((first, 10), (second, 4), (first, 10), (second, 4)):
            switcher.switch(live, uri)
            assert switcher.current(live) == switcher.current(uri) == switcher.keep(live)
            with open_source(name) as source:
                assert source.describe().count == count
                assert len(next(source.batches(20))) == count
        assert switcher.belongings(first)
        switcher.drop(first)
        with pytest.raises(VecmigrateError):
            self._read(old)
        assert len(_ids(self._read(name))) == 4

    def test_readers_are_not_led_nowhere(self, tmp_path: Path, batch: VectorBatch) -> None:
        name, old, none = (self.target_uri(tmp_path, n) for n in ("live", "old", "none"))
        switcher = find_switcher(name)
        if switcher is None:
            pytest.skip("this connector moves no readers")
        live, missing = map(parse_uri, (name, none))
        self._write(old, batch)
        switcher.switch(live, parse_uri(old))
        for attempt in (switcher.check, switcher.switch):
            with pytest.raises(VecmigrateError):
                attempt(live, missing)
        with pytest.raises(VecmigrateError):
            switcher.drop(live)
        assert len(_ids(self._read(name))) == 10

    def test_another_dimension_is_refused(self, uri: str, batch: VectorBatch) -> None:
        spec = _spec(dimension=DIMENSION + 1)
        with open_sink(uri, spec) as sink, pytest.raises(MismatchError):
            sink.write(batch)

    def test_an_unknown_option_is_refused(self, uri: str) -> None:
        joint = "&" if "?" in uri else "?"
        with pytest.raises(UsageError):
            open_source(f"{uri}{joint}no_such_option=1")

    def test_a_missing_collection_is_one_clear_error(self, uri: str) -> None:
        with pytest.raises(VecmigrateError):
            open_source(uri)


def _opens(uri: str) -> bool:
    try:
        open_source(uri).close()
    except VecmigrateError:
        return False
    return True


def _partitions(uri: str, cursor: str | None) -> list[str]:
    with open_source(uri) as source:
        if not isinstance(source, PartitionedSource):
            pytest.skip("this store's sources have no partitions")
        try:
            return list(source.partitions(1, batches=3, cursor=cursor))
        except UsageError as refused:
            pytest.skip(str(refused))


def _read_partition(uri: str, token: str) -> list[VectorBatch]:
    with open_source(uri) as source:
        assert isinstance(source, PartitionedSource)
        return _copies(source.partition_batches(token, 1))


def _copies(batches: Iterable[VectorBatch]) -> list[VectorBatch]:
    """Return batches of their own: one may be a view of what closing the source releases."""
    return [VectorBatch(b.ids.copy(), b.vectors.copy(), b.payloads, b.cursor) for b in batches]


def _plain(batch: VectorBatch) -> tuple[Any, ...]:
    return batch.ids.tolist(), batch.vectors.tolist(), batch.payloads, batch.cursor


def _payloads(batch: VectorBatch) -> list[dict[str, Any]]:
    return [dict(payload) for payload in batch.each_payload()]


def _nearest(
    source: Source, queries: Vectors, k: int, where: str | None = None
) -> list[VectorBatch]:
    found = source.nearest(queries, k, where=where)
    if found is None:
        pytest.skip("this connector searches no index")
    return found


def _ids(batches: list[VectorBatch]) -> list[PointId]:
    return [i for batch in batches for i in batch.ids.tolist()]


def _by_id(batches: list[VectorBatch]) -> dict[PointId, tuple[Any, dict[str, Any]]]:
    found: dict[PointId, tuple[Any, dict[str, Any]]] = {}
    for batch in batches:
        payloads = batch.each_payload()
        for row, point_id in enumerate(batch.ids.tolist()):
            assert point_id not in found, f"{point_id} came twice"
            found[point_id] = (batch.vectors[row], dict(payloads[row]))
    return found


def _contents(batches: list[VectorBatch]) -> dict[PointId, str]:
    """Return each point's payload in one form."""
    return {
        point_id: canonical_text(payload)
        for batch in batches
        for point_id, payload in zip(batch.ids.tolist(), batch.each_payload(), strict=True)
    }


def _shuffled(value: Any, seed: int, *, lists: bool = False) -> Any:
    """Return a JSON-like value, its mappings (and with ``lists`` its lists) in another order."""
    if not isinstance(value, dict | list):
        return value
    rng = np.random.default_rng(seed)
    if isinstance(value, list):
        order = rng.permutation(len(value)) if lists else range(len(value))
        return [_shuffled(value[int(at)], seed + 1, lists=lists) for at in order]
    names = list(value)
    rng.shuffle(names)
    return {name: _shuffled(value[name], seed + 1, lists=lists) for name in names}
