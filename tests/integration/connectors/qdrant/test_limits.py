"""A collection's own limits: how requests are cut to them, and what is said once one is reached."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from qdrant_client import models
from support.crash import is_unfinished, make_source, make_translator
from support.qdrant.loopback.grpc_server import GrpcServer
from support.qdrant.loopback.server import Engine, RefusedError, RestServer
from support.qdrant.places import DIMENSION, PLACES, Place, open_place, params, points
from vecmigrate_qdrant.limits import Limits

from vecmigrate import migrate, open_sink, open_source, patience
from vecmigrate.connector import InputError, Metric, TargetSpec, UnreachableError, WriteError
from vecmigrate.connector import RefusedError as PointRefusedError

SPEC = TargetSpec(dimension=DIMENSION, metric=Metric.DOT)

PASSING = [
    (408, "Timeout: Timeout error: Operation 'Upsert' timed out after 1s"),
    (
        500,
        "Service internal error: Failed to apply operation to at least one `Active` replica. "
        "Consistency of this update is not guaranteed. Please retry. ",
    ),
    (
        500,
        "Service internal error: The replica set for shard 0 on peer 1 does not have enough "
        "active replicas",
    ),
    (500, "Service internal error: The replica set for shard 0 on peer 1 has no active replica"),
    (
        500,
        "Service internal error: 1 of 1 read operations failed:\n  Service internal error: "
        "transport error: tcp connect error: Connection refused (os error 111)",
    ),
    (
        500,
        "Service internal error: 2 out of 4 shards failed to apply operation. First error "
        "captured: Service internal error: Tonic status error: code: 'The service is currently "
        "unavailable'",
    ),
    (
        500,
        "Service internal error: 1 of 1 read operations failed: Timeout error: Deadline Exceeded: "
        "code: 'Deadline expired before operation could complete'",
    ),
    (
        500,
        "Service internal error: Waiting for consensus operation commit failed. Timeout set at: "
        "10 seconds",
    ),
]

REACHED = [
    (
        "max_disk_usage_percent",
        "Bad request: Disk usage is at 91% of total capacity, exceeding the configured limit of "
        "90%. Help: Reduce disk usage (e.g. delete points or drop collections) or raise "
        "`max_disk_usage_percent` in strict mode.",
    ),
    (
        "max_resident_memory_percent",
        "Bad request: Resident memory usage is at 81% of total memory, exceeding the configured "
        "limit of 80%. Help: Reduce memory usage (e.g. delete points or free segments) or raise "
        "`max_resident_memory_percent` in strict mode.",
    ),
    ("max_points_count", "Bad request: Max points count limit of 10 reached!"),
    (
        "max_collection_vector_size_bytes",
        "Bad request: Max vector storage size limit of 0.5MB reached!",
    ),
    (
        "max_collection_payload_size_bytes",
        "Bad request: Max payload storage size limit of 0.5MB reached!",
    ),
    (
        "upsert_max_batchsize",
        'Bad request: Limit exceeded 60 > 50 for "upsert limit". Help: Reduce the "upsert limit" '
        "parameter to or below 50.",
    ),
]


@pytest.fixture
def engine() -> Engine:
    engine = Engine()
    engine.create("docs", models.CreateCollection(vectors=params()))
    batch = points(list(range(5)))
    engine.local.upsert(
        "docs", models.Batch(ids=batch.ids.tolist(), vectors=batch.vectors.tolist())
    )
    return engine


@pytest.fixture(params=["rest", "grpc"])
def server(request: pytest.FixtureRequest, engine: Engine) -> Iterator[str]:
    """A URI with ``{}`` in the collection's place."""
    with RestServer(engine) as rest, GrpcServer(engine) as grpc:
        how = "grpc=false" if request.param == "rest" else f"grpc_port={grpc.port}"
        yield f"qdrant://127.0.0.1:{rest.port}/{{}}?{how}&retries=1"


@pytest.mark.parametrize(("status", "said"), PASSING)
def test_what_passes_in_a_cluster_is_asked_again(
    engine: Engine, server: str, status: int, said: str
) -> None:
    with open_source(server.format("docs")) as source:
        engine.faults.append(RefusedError(status, said))
        assert sum(map(len, source.batches(10))) == 5
        assert not engine.faults
        engine.faults.extend([RefusedError(status, said)] * 2)
        with patience(0), pytest.raises(UnreachableError):
            list(source.batches(10))


@pytest.mark.parametrize(("setting", "said"), REACHED)
def test_a_limit_that_is_reached_is_named_and_no_points_fault(
    engine: Engine, server: str, setting: str, said: str
) -> None:
    with open_sink(server.format("new"), SPEC) as sink:
        engine.faults.append(RefusedError(400, said))
        with pytest.raises(WriteError, match=setting) as caught:
            sink.write(points([1, 2]))
        assert not isinstance(caught.value, PointRefusedError)
        assert not engine.faults
        sink.write(points([1, 2]))
        assert sink.finish().count == 2


FULL = [
    (
        "disk",
        "Service internal error: No space left on device: WAL buffer size exceeds available disk "
        "space",
    ),
    ("disk", "Service internal error: IO Error: No space left on device (os error 28)"),
    (
        "memory",
        "Service internal error: Out of memory, free: 1048576, IO Error: Cannot allocate memory "
        "(os error 12)",
    ),
    ("memory", "Service internal error: Gridstore IO error: Cannot allocate memory (os error 12)"),
]


@pytest.mark.parametrize(("what", "said"), FULL)
def test_a_full_node_is_told_as_one(engine: Engine, server: str, what: str, said: str) -> None:
    with open_sink(server.format("new"), SPEC) as sink:
        engine.faults.append(RefusedError(500, said))
        with pytest.raises(WriteError, match=f"the node's {what}") as caught:
            sink.write(points([1, 2]))
        assert not isinstance(caught.value, PointRefusedError)
        assert not engine.faults
        sink.write(points([1, 2]))
        assert sink.finish().count == 2


def test_a_node_above_its_limit_costs_no_point(tmp_path: Path, engine: Engine) -> None:
    """Neither a dead letter nor the target: the same command continues."""
    make_source("faiss", tmp_path, 60)
    make_translator(tmp_path)
    letters = tmp_path / "letters.jsonl"
    with RestServer(engine) as rest:
        target = f"qdrant://127.0.0.1:{rest.port}/new?grpc=false"

        def move(**more: object) -> None:
            migrate(
                f"faiss:{tmp_path}/old.faiss", target, tmp_path / "translator",
                state=tmp_path / "state.sqlite", batch_size=10, checkpoint_seconds=0,
                on_bad_point="quarantine", dead_letters=letters, **more,  # type: ignore[arg-type]
            )  # fmt: skip

        def fill(count: int) -> None:
            engine.faults.append(RefusedError(400, REACHED[0][1]))

        with pytest.raises(WriteError, match=REACHED[0][0]):
            move(progress=fill)
        assert is_unfinished(target)
        engine.faults.clear()
        move()
        assert not letters.exists()
        with open_source(target) as made:
            assert made.describe().count == 60


def test_a_request_beyond_a_rate_limit_is_not_waited_for(engine: Engine, server: str) -> None:
    said = (
        "Rate limiting exceeded: Read rate limit exceeded, request larger than rate limiter "
        "capacity, please try to split your request"
    )
    with open_source(server.format("docs")) as source:
        engine.faults.append(RefusedError(429, said))
        with pytest.raises(InputError, match="read_rate_limit"):
            source.fetch([1, 2])


def limits(**said: int | bool) -> Limits:
    engine = Engine()
    strict = models.StrictModeConfig.model_validate({"enabled": True, **said})
    engine.create("c", models.CreateCollection(vectors=params(), strict_mode_config=strict))
    return Limits.of(engine.info("c"))


def test_requests_are_cut_to_the_limits() -> None:
    free = limits()
    assert free == Limits()
    assert free.page_size(10_000) == free.upsert_size(10_000) == free.search_size(10_000) == 10_000
    assert not free.reads_by_scroll
    strict = limits(
        max_query_limit=50, upsert_max_batchsize=20, search_max_batchsize=4,
        search_allow_exact=False,
    )  # fmt: skip
    assert (strict.page_size(1000), strict.page_size(10)) == (50, 10)
    assert strict.retrieve_size(1000) == 1000
    assert (strict.upsert_size(1000), strict.delete_size(1000)) == (20, 1000)
    assert strict.search_size(32) == 4
    assert not strict.search_allow_exact


def test_requests_are_cut_to_what_a_minute_allows() -> None:
    """More is refused for ever."""
    rated = limits(read_rate_limit=30, write_rate_limit=10, upsert_max_batchsize=20)
    assert rated.reads_by_scroll
    assert rated.page_size(1000) == 1000
    assert (rated.retrieve_size(1000), rated.search_size(100)) == (30, 30)
    assert rated.search_size(100, conditions=2) == 10
    assert rated.search_size(100, conditions=99) == 1
    assert (rated.upsert_size(1000), rated.delete_size(1000)) == (10, 10)


def test_limits_that_are_off_do_not_count() -> None:
    assert limits(enabled=False, max_query_limit=5) == Limits()


@pytest.fixture(params=PLACES[3:])
def real(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with open_place(request.param, tmp_path) as place:
        yield place


def test_a_real_server_charges_what_is_said_here(real: Place) -> None:
    """Cut to the limits each request is taken; one point more is refused for ever."""
    name = real.name("limits")
    ids = list(range(31))
    batch = points(ids)
    strict = models.StrictModeConfig(
        enabled=True, read_rate_limit=40, write_rate_limit=30, max_query_limit=35
    )
    with real.client() as client:
        client.create_collection(name, params())
        # The first write to a new collection is charged twice.
        client.upsert(name, models.Batch(ids=ids[:1], vectors=batch.vectors[:1].tolist()))
        client.update_collection(name, strict_mode_config=strict)
        found = Limits.of(client.get_collection(name))
        assert found == Limits(read_rate_limit=40, write_rate_limit=30, max_query_limit=35)
        for size in (found.upsert_size(31), 31):
            rows = models.Batch(ids=ids[:size], vectors=batch.vectors[:size].tolist())
            if size == 31:
                with pytest.raises(Exception, match="request larger than rate limiter"):
                    client.upsert(name, rows)
            else:
                client.upsert(name, rows)
        # A scroll costs one whatever its page, which max_query_limit alone bounds.
        assert len(client.scroll(name, limit=found.page_size(1000))[0]) == 30
        with pytest.raises(Exception, match="Limit exceeded"):
            client.scroll(name, limit=36)
        # A retrieve costs one a point, and max_query_limit does not bound it.
        assert len(client.retrieve(name, list(range(38)))) == 30
        with pytest.raises(Exception, match="request larger than rate limiter"):
            client.retrieve(name, list(range(41)))
