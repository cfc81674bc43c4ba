"""Snapshots of a real server: all that they hold, what is refused, and nothing left behind."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from qdrant_client import QdrantClient, models
from support.crash import contents, migrate_with_kills
from support.forked import Forked, run_forked
from support.qdrant.migrating import Reversal, records
from support.qdrant.places import SERVER, open_place
from support.qdrant.snapshot_server import SnapshotServer, serving
from support.small_disk import small_disk
from typer.testing import CliRunner

from vecmigrate import Procrustes, migrate, open_sink, open_source, save_translator
from vecmigrate.cli import app
from vecmigrate.connector import (
    CollectionDescription,
    InputError,
    MismatchError,
    PointId,
    TargetSpec,
    UnreachableError,
    UsageError,
)
from vecmigrate.errors import ExitCode
from vecmigrate.sync import sync
from vecmigrate.verification import VerifyOptions, verify

DATA = Path(__file__).parents[3] / "data" / "qdrant_snapshots.zip"
HELD: dict[str, Any] = json.loads(zipfile.ZipFile(DATA).read("points.json"))
OPTIONS = {"whole": "?vector=text", "keyed": "", "shard": ""}
Member = tuple[tarfile.TarInfo, bytes]


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for what is unpacked, which each test leaves empty."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield folder
    assert list(folder.glob("vecmigrate-*")) == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with zipfile.ZipFile(DATA) as archive:
        archive.extractall(tmp_path / "made")
    return tmp_path / "made"


def uri(folder: Path, name: str) -> str:
    return f"qdrant-snapshot:{folder}/{name}.snapshot{OPTIONS[name]}"


def read(source: str, size: int = 5) -> tuple[CollectionDescription, dict[PointId, list[Any]]]:
    """Describe a collection and return each point's numbers, payload and extra."""
    found: dict[PointId, list[Any]] = {}
    with open_source(source) as opened:
        for batch in opened.whole_batches(size):
            assert 0 < len(batch) <= size
            rows = np.split(batch.vectors, np.cumsum(batch.each_count())[:-1])
            extras = batch.extras or [{}] * len(batch)
            for i, own, payload, extra in zip(
                batch.ids.tolist(), rows, batch.each_payload(), extras, strict=True
            ):
                assert i not in found
                found[i] = [own.ravel().tolist(), payload, dict(extra)]
        return opened.describe(), found


def expected(name: str) -> dict[PointId, list[Any]]:
    """What the server told of the points, in its order."""
    found: dict[PointId, list[Any]] = {}
    for record in HELD[name]["points"]:
        vector, others = record["vector"], {}
        if isinstance(vector, dict):
            others = {n: v for n, v in vector.items() if n != "text"}
            vector = vector.get("text", [])
        payload = record["payload"]
        spelled = record["id"]
        if name == "keyed":
            key = record["shard_key"]
            spelled = f"{json.dumps(key) if key == '7' else key}/{record['id']}"
        found[spelled] = [vector, payload, {"vectors": others} if others else {}]
    return found


def rounded(value: Any) -> Any:
    """The same with each number as float32 has it: REST tells fewer digits of a vector."""
    if isinstance(value, float):
        return float(np.float32(value))
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    return list(map(rounded, value)) if isinstance(value, list) else value


@pytest.mark.parametrize("name", ["whole", "keyed", "shard"])
def test_all_points_are_read_as_from_their_server(name: str, folder: Path) -> None:
    for size in (1, 3, 100):
        described, found = read(uri(folder, name), size)
        assert described.count == len(found)
        ours = expected(name)
        assert rounded(found) == rounded(ours)
        # The payloads are the same to the last bit: the engine is the server's own.
        assert {i: rest[1] for i, rest in found.items()} == {i: r[1] for i, r in ours.items()}
        if name != "keyed":
            assert list(found) == list(ours)


def test_all_settings_of_the_collection_are_told(folder: Path) -> None:
    described, _ = read(uri(folder, "whole"))
    held, settings = HELD["whole"], described.settings
    config = held["config"]
    assert settings["hnsw_config"] == config["hnsw_config"]
    assert settings["optimizers_config"] == config["optimizer_config"]
    for field in ("wal_config", "quantization_config", "strict_mode_config", "metadata"):
        assert settings[field] == config[field], field
    for field in ("sparse_vectors", "shard_number", "replication_factor", "on_disk_payload"):
        assert settings[field] == config["params"][field], field
    assert settings["payload_schema"] == held["payload_schema"]
    assert described.other_vectors == ("tokens", "words")
    keyed, _ = read(uri(folder, "keyed"))
    assert keyed.keyed_ids
    assert keyed.settings["sharding_method"] == "custom"
    assert keyed.settings["shard_keys"] == [
        {"key": 7, "shards_number": 1},
        {"key": "7", "shards_number": 2},
        {"key": "asia", "shards_number": 2},
        {"key": "europe", "shards_number": 1},
    ]
    shard, _ = read(uri(folder, "shard"))
    assert shard.settings["payload_schema"] == HELD["shard"]["payload_schema"]


@pytest.mark.parametrize("name", ["whole", "keyed"])
def test_reading_goes_on_after_any_cursor(name: str, folder: Path) -> None:
    with open_source(uri(folder, name)) as source:
        every = list(source.whole_batches(2))
        ids = [i for batch in every for i in batch.ids.tolist()]
        assert [i for batch in source.ids(5) for i in batch.tolist()] == ids
        done = 0
        for batch in every:
            done += len(batch)
            rest = source.whole_batches(3, cursor=batch.cursor)
            assert [i for each in rest for i in each.ids.tolist()] == ids[done:]
        assert source.fetch(ids[::-1]).ids.tolist() == ids[::-1]
        with pytest.raises(UsageError):
            next(source.partitions(2, batches=2))


def test_the_nearest_are_found_across_shards(folder: Path) -> None:
    with open_source(uri(folder, "whole")) as source:
        whole = next(iter(source.batches(100)))
        found, points = source.search(whole.vectors, 3), source.nearest(whole.vectors, 3)
        assert found is not None
        assert points is not None
        for n, ids in enumerate(found):
            fetched = source.fetch(ids)
            assert points[n].ids.tolist() == ids.tolist()
            np.testing.assert_array_equal(points[n].vectors, fetched.vectors)
            assert points[n].payloads == fetched.payloads
            far = np.linalg.norm(whole.vectors - whole.vectors[n], axis=1)
            rows = [whole.ids.tolist().index(i) for i in ids.tolist()]
            np.testing.assert_allclose(far[rows], np.sort(far)[:3], rtol=1e-6)


def test_a_target_made_of_a_snapshot_is_the_collection(folder: Path, tmp_path: Path) -> None:
    with open_place("rest", tmp_path) as served:
        migrate(uri(folder, "whole"), served.uri("whole"), Reversal(4))
        described, found = read(served.uri("whole", "vector=text"))
        ours = expected("whole")
        assert list(found) == list(ours)
        for point, (own, *rest) in found.items():
            assert own == ours[point][0][::-1]
            assert rest[0] == ours[point][1]
            words = ours[point][2].get("vectors", {}).get("words")
            assert rest[1].get("vectors", {}).get("words") == words
        config, settings = HELD["whole"]["config"], described.settings
        assert settings["strict_mode_config"] == config["strict_mode_config"]
        assert settings["payload_schema"] == HELD["whole"]["payload_schema"]
        with served.client() as client:
            assert len(records(client, "whole")) == len(ours)
    migrate(uri(folder, "whole"), f"qdrant-edge:{tmp_path}/new", Reversal(4))
    migrate(f"qdrant-edge:{tmp_path}/new", f"qdrant-edge:{tmp_path}/back", Reversal(4))
    _, back = read(f"qdrant-edge:{tmp_path}/back")
    _, before = read(uri(folder, "whole"))
    assert {i: (own, rest[1]) for i, (own, *rest) in back.items()} == {
        i: (own, rest[1]) for i, (own, *rest) in before.items()
    }


def translator(folder: Path) -> Path:
    rng = np.random.default_rng(1)
    path = folder / "translator"
    X, Y = rng.standard_normal((60, 4)), rng.standard_normal((60, 6))
    save_translator(Procrustes().fit(X, Y), path)
    return path


def test_ten_kills_while_a_snapshot_is_read(folder: Path, tmp_path: Path) -> None:
    mapped = translator(tmp_path)
    for name in ("shard", "whole"):
        source = uri(folder, name)
        whole, killed = (f"qdrant-edge:{tmp_path}/{name}-{end}" for end in ("whole", "killed"))
        migrate(source, whole, mapped, batch_size=1)
        landed, result = migrate_with_kills(
            source, killed, mapped, tmp_path / f"{name}.sqlite",
            kills=10, points=12, seed=3, batch=1,
        )  # fmt: skip
        assert landed >= 5
        assert result["written"] == 12
        assert contents(killed) == contents(whole)
        found = verify(source, killed, mapped, VerifyOptions(full=True))
        assert found.passed, found.checks


def test_a_killed_runs_folder_is_removed_by_the_next_and_no_living_ones(
    folder: Path, temporary: Path
) -> None:
    source = uri(folder, "shard")
    code = (
        "import sys; from vecmigrate import open_source\n"
        f"source = open_source({source!r})\n"
        "print('held', flush=True); sys.stdin.read()"
    )

    def begin() -> Forked:
        process = Forked("-c", code)
        assert process.stdout.readline() == "held\n"
        return process

    killed, living = begin(), begin()
    assert len(list(temporary.iterdir())) == 2
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    with open_source(source) as first, open_source(source) as second:
        assert first.describe().count == second.describe().count == 12
        assert len(list(temporary.iterdir())) == 2
    assert len(list(temporary.iterdir())) == 1
    living.communicate(timeout=60)
    # It ended without closing the source.
    read(source)


def members(file: Path) -> list[Member]:
    with tarfile.open(file) as archive:
        return [
            (m, ((opened := archive.extractfile(m)) and opened.read()) or b"")
            for m in archive
            if "/wal/" not in m.name
        ]


def rewritten(folder: Path, name: str, change: Callable[[list[Member]], list[Member]]) -> str:
    """Write a snapshot whose members were changed, and return its URI."""
    with tarfile.open(folder / "changed.snapshot", "w") as archive:
        for member, content in change(members(folder / f"{name}.snapshot")):
            plain = tarfile.TarInfo(member.name)
            plain.type, plain.linkname = member.type, member.linkname
            if plain.type in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                archive.addfile(plain)
                continue
            plain.type, plain.size = tarfile.REGTYPE, len(content)
            archive.addfile(plain, io.BytesIO(content))
    return f"qdrant-snapshot:{folder}/changed.snapshot{OPTIONS[name]}"


def replaced(end: str, change: Callable[[bytes], bytes]) -> Callable[[list[Member]], list[Member]]:
    return lambda found: [
        (m, change(content) if m.name.endswith(end) else content) for m, content in found
    ]


def renamed(old: str, new: str) -> Callable[[list[Member]], list[Member]]:
    def change(found: list[Member]) -> list[Member]:
        for member, _ in found:
            if member.name.startswith(old):
                member.name = new + member.name.removeprefix(old)
        return found

    return change


def state(name: str) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        found = json.loads(content)
        found["peers"] = dict.fromkeys(found["peers"], name)
        return json.dumps(found).encode()

    return change


def doubled(found: list[Member]) -> list[Member]:
    """Shard 1 is shard 0 once more."""
    rest = [(m, content) for m, content in found if not m.name.startswith("1/")]
    again = []
    for member, content in rest:
        if member.name.startswith("0/"):
            copy = tarfile.TarInfo(f"1{member.name[1:]}")
            again.append((copy, content))
    return rest + again


@pytest.mark.parametrize(
    "change",
    [
        replaced("config.json", lambda _: b"{}"),
        replaced("config.json", lambda _: b"no JSON"),
        replaced("0/replica_state.json", state("Resharding")),
        replaced("1/replica_state.json", state("Partial")),
        replaced("2/replica_state.json", state("Dead")),
        lambda found: [(m, c) for m, c in found if not m.name.startswith("2/segments")],
        lambda found: [(m, c) for m, c in found if "segments" not in m.name],
        doubled,
    ],
)
def test_a_snapshot_that_lacks_points_or_is_damaged_is_refused(
    change: Callable[[list[Member]], list[Member]], folder: Path
) -> None:
    with pytest.raises(InputError):
        read(rewritten(folder, "whole", change))


def test_a_newer_storage_version_is_refused(folder: Path) -> None:
    for version in (b"0.5.0", b"1.0.0", b"what"):
        with pytest.raises(InputError, match="version"):
            read(rewritten(folder, "whole", replaced("version.info", lambda _, v=version: v)))


def test_no_member_leaves_the_folder(folder: Path, temporary: Path, tmp_path: Path) -> None:
    before = {p.name for p in tmp_path.iterdir()}
    outside = str(tmp_path / "outside.json")
    for name in ("../outside.json", "0/segments/../../../../outside.json", outside, "/etc/evil"):
        with pytest.raises(InputError):
            read(rewritten(folder, "shard", renamed("replica_state.json", name)))
    link = tarfile.TarInfo("0/segments/aa/config.json")
    for kind, target in ((tarfile.SYMTYPE, "/etc/passwd"), (tarfile.LNKTYPE, "../../../x")):
        link.type, link.linkname = kind, target
        with pytest.raises(InputError):
            read(rewritten(folder, "shard", lambda found: [(link, b""), *found]))
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w") as archive:
        evil = tarfile.TarInfo("snapshot/files/../../../../../../outside.json")
        archive.addfile(evil, io.BytesIO(b""))
    segment = replaced(".tar", lambda _: inner.getvalue())
    with pytest.raises(InputError):
        read(rewritten(folder, "shard", segment))
    assert {p.name for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", ["whole", "shard"])
def test_a_truncated_file_is_told_wherever_it_ends(name: str, folder: Path) -> None:
    content = (folder / f"{name}.snapshot").read_bytes()
    rng = random.Random(0)
    ends = {0, 1, 511, 512, 1024, len(content) - 1, len(content) - 512, len(content) - 1024}
    ends |= {512 * rng.randrange(len(content) // 512) for _ in range(20)}
    ends |= {rng.randrange(len(content)) for _ in range(20)}
    for end in sorted(ends):
        (folder / "cut.snapshot").write_bytes(content[:end])
        with pytest.raises(InputError):
            read(f"qdrant-snapshot:{folder}/cut.snapshot")


def test_what_is_no_snapshot_is_told(folder: Path) -> None:
    (folder / "text.snapshot").write_text("dear reader" * 1000)
    (folder / "empty.snapshot").write_bytes(bytes(10_240))
    for name in ("text.snapshot", "empty.snapshot", "absent.snapshot", "."):
        with pytest.raises(InputError):
            read(f"qdrant-snapshot:{folder}/{name}")
    for wrong in (
        "qdrant-snapshot+https:x",
        "qdrant-snapshot:x?limit=3",
        *(f"qdrant-snapshot:x?of={of}" for of in ("", "a", "faiss:a", "qdrant:a/b", "qdrant://a")),
    ):
        with pytest.raises(UsageError):
            open_source(wrong)
    with pytest.raises(UsageError):
        open_sink(uri(folder, "shard"), TargetSpec(dimension=4, metric="dot"))


@dataclass(frozen=True)
class Wrong:
    """A snapshot's URI that a user got wrong, and how the commands are to end.

    Attributes
    ----------
    make
        Makes the file of the snapshots in a folder, and returns the URI.
    """

    make: Callable[[Path], str]
    code: ExitCode = ExitCode.BAD_INPUT


def written(content: Callable[[bytes], bytes]) -> Callable[[Path], str]:
    def make(folder: Path) -> str:
        changed = content((folder / "shard.snapshot").read_bytes())
        (folder / "changed.snapshot").write_bytes(changed)
        return f"qdrant-snapshot:{folder}/changed.snapshot"

    return make


def pipe(folder: Path) -> str:
    os.mkfifo(folder / "pipe.snapshot")
    return f"qdrant-snapshot:{folder}/pipe.snapshot"


def stranger(found: list[Member]) -> list[Member]:
    """A tar of another program."""
    return [(tarfile.TarInfo("readme.txt"), b"dear reader")]


WRONG = {
    "truncated": Wrong(written(lambda content: content[: len(content) // 2])),
    "empty": Wrong(written(lambda _: b"")),
    "no tar": Wrong(written(lambda _: b"dear reader" * 1000)),
    "another tar": Wrong(lambda folder: rewritten(folder, "shard", stranger)),
    "a member outside": Wrong(
        lambda folder: rewritten(folder, "shard", renamed("replica_state", "../replica_state"))
    ),
    "a newer version": Wrong(
        lambda folder: rewritten(folder, "whole", replaced("version.info", lambda _: b"0.9.0"))
    ),
    "a directory": Wrong(lambda folder: f"qdrant-snapshot:{folder}"),
    "a pipe": Wrong(pipe),
    "not there": Wrong(lambda folder: f"qdrant-snapshot:{folder}/absent.snapshot"),
    "another vector": Wrong(lambda folder: f"{uri(folder, 'shard')}?vector=image", ExitCode.USAGE),
    "a sparse vector": Wrong(
        lambda folder: f"qdrant-snapshot:{folder}/whole.snapshot?vector=words", ExitCode.USAGE
    ),
    "of nothing": Wrong(lambda folder: f"{uri(folder, 'shard')}?of=articles", ExitCode.USAGE),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=list(WRONG))
def test_a_wrong_snapshot_is_one_line_of_each_command(
    wrong: Wrong, folder: Path, tmp_path: Path
) -> None:
    source, new = wrong.make(folder), tmp_path / "new"
    mapped = translator(tmp_path)
    np.save(tmp_path / "vectors.npy", np.eye(12, 6))
    encoder = f"vectors:{tmp_path}/vectors.npy"
    target = f"qdrant-edge:{new}"
    before = sorted(tmp_path.rglob("*"))
    for arguments in (
        ["inspect", source],
        ["anchors", source, "--encoder", encoder, "--size", "5", "--out", str(new)],
        ["dry-run", source, "--encoder", encoder, "--out", str(new)],
        ["migrate", source, target, "--translator", str(mapped)],
    ):
        ended = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert ended.exit_code == wrong.code, (arguments, ended.output)
        assert ended.stdout == ""
        assert ended.stderr.count("\n") == 1
        assert ended.stderr.startswith("error: ")
        assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("size", ["32m", "100m", "600m"])
def test_room_is_checked_first(
    size: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that runs out of it is ended by the system, which no test process is to be."""
    with small_disk(tmp_path, size) as disk:
        monkeypatch.setenv("TMPDIR", str(disk))
        for name in ("shard", "whole"):
            ended = run_forked("-m", "vecmigrate", "inspect", uri(folder, name))
            enough = size == "600m" and name == "shard"
            assert ended.returncode == (0 if enough else ExitCode.BAD_INPUT), ended.stderr
            assert ended.stderr.count("\n") == (0 if enough else 1)
            assert list(disk.iterdir()) == []


def test_sync_goes_on_from_a_snapshot_with_its_collection(folder: Path, tmp_path: Path) -> None:
    mapped, target = translator(tmp_path), f"qdrant-edge:{tmp_path}/new"
    with open_place("rest", tmp_path) as served:
        live, other = served.uri("live"), served.uri("other")
        with served.client() as client:
            for name in ("live", "other"):
                client.create_collection(
                    name, models.VectorParams(size=4, distance=models.Distance.DOT)
                )
                client.upsert(name, [models.PointStruct(**p) for p in plain_points()], wait=True)
            taken = f"{uri(folder, 'shard')}?of={live.replace('&', '%26')}"
            migrate(taken, target, mapped, state=tmp_path / "state.sqlite")
            # What was written is told from what changes at the collection from now on.
            assert sync(taken, target, mapped, tmp_path / "state.sqlite").wrote == 0
            client.delete("live", [3])
            changed = {"id": 4, "vector": [9.0, 9.0, 9.0, 9.0], "payload": {"kind": "new"}}
            client.upsert("live", [models.PointStruct(**changed)], wait=True)
        with pytest.raises(MismatchError):
            sync(other, target, mapped, tmp_path / "state.sqlite")
        result = sync(live, target, mapped, tmp_path / "state.sqlite")
        assert (result.changed, result.vanished) == (1, 1), result
        found = verify(live, target, mapped, VerifyOptions(full=True))
        assert found.passed, found.checks
        with open_source(target) as source:
            assert source.describe().count == 11
            assert source.fetch([4]).payloads == [{"kind": "new"}]


def plain_points() -> list[dict[str, Any]]:
    keys = ("id", "vector", "payload")
    return [{key: record[key] for key in keys} for record in HELD["shard"]["points"]]


def test_a_server_makes_one_which_stays_nowhere(folder: Path, tmp_path: Path) -> None:
    server = SnapshotServer((folder / "shard.snapshot").read_bytes())
    server.kept["docs-77-2026-01-01-00-00-00.snapshot"] = b"a backup"
    with serving(server) as at:
        _, found = read(f"qdrant-snapshot://{at}/docs")
        assert found == expected("shard")
        migrate(f"qdrant-snapshot://{at}/docs", f"qdrant-edge:{tmp_path}/new", Reversal(4))
        with open_source(f"qdrant-edge:{tmp_path}/new") as target:
            made = target.describe().provenance
        assert made is not None
        assert made.source == f"qdrant-snapshot://{at}/docs"
        with pytest.raises(InputError):
            read(f"qdrant-snapshot://{at}/absent")
    assert list(server.kept.values()) == [b"a backup"]
    with pytest.raises(UnreachableError):
        read(f"qdrant-snapshot://{at}/docs?retries=0")


@pytest.mark.parametrize("flaw", ["bytes", "short"])
def test_a_download_that_is_not_what_was_made_is_refused(flaw: str, folder: Path) -> None:
    server = SnapshotServer((folder / "shard.snapshot").read_bytes(), flaw)
    with serving(server) as at, pytest.raises(InputError):
        read(f"qdrant-snapshot://{at}/docs")
    assert server.kept == {}


@pytest.mark.parametrize("tells", [True, False])
def test_what_a_kill_left_at_the_server_is_removed_by_the_next_run(
    tells: bool, folder: Path, temporary: Path
) -> None:
    server = SnapshotServer((folder / "shard.snapshot").read_bytes(), "slow")
    server.kept["docs-77-2026-01-01-00-00-00.snapshot"] = b"a backup"
    server.tells = tells
    with serving(server) as at:
        killed_while_making(server, at)
        # The next run finds none yet, and looks again at its end.
        with open_source(uri(folder, "shard")):
            assert server.making == 1
            finish(server)
            server.kept["docs-77-2026-01-02-00-00-00.snapshot"] = b"another backup"
        assert list(server.kept.values()) == [b"a backup", b"another backup"]
        assert list(temporary.iterdir()) == []
        server.go_on.clear()
        killed_while_making(server, at)
        # The next run ends too early, so that the one after it removes the snapshot.
        read(uri(folder, "shard"))
        finish(server)
        read(uri(folder, "shard"))
    assert list(server.kept.values()) == [b"a backup", b"another backup"]


def killed_while_making(server: SnapshotServer, at: str) -> None:
    """Kill a run while the server makes its snapshot."""
    server.asked.clear()
    process = Forked("-m", "vecmigrate", "inspect", f"qdrant-snapshot://{at}/docs")
    assert server.asked.wait(60)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def finish(server: SnapshotServer) -> None:
    """Have the server finish what it makes."""
    server.go_on.set()
    while server.making:
        time.sleep(0.01)


@pytest.mark.skipif(not SERVER, reason="VECMIGRATE_TEST_QDRANT_URL names no Qdrant server")
def test_a_real_server_makes_one_which_equals_its_collection(tmp_path: Path) -> None:
    with open_place("server", tmp_path) as served:
        name = served.name("snap")
        with served.client() as client:
            fill(client, name)
            live = served.uri(name, "vector=text")
            _, ours = read(live, 1000)
            taken = live.replace("qdrant", "qdrant-snapshot", 1)
            _, theirs = read(taken, 1000)
            assert rounded(list(theirs.values())) == rounded(list(ours.values()))
            assert list(theirs) == list(ours)
            assert client.list_snapshots(name) == []
            assert httpx.get(f"{SERVER}/collections/{name}").json()["result"]["points_count"]


def fill(client: QdrantClient, name: str) -> None:
    params = models.VectorParams(size=16, distance=models.Distance.DOT)
    client.create_collection(name, {"text": params, "image": params}, shard_number=2)
    rng = np.random.default_rng(0)
    for start in range(0, 5000, 500):
        points = [
            models.PointStruct(
                id=i,
                vector={n: rng.random(16).tolist() for n in ("text", "image")[: 1 + i % 2]},
                payload={"n": i, "x": i / 7},
            )
            for i in range(start, start + 500)
        ]
        client.upsert(name, points, wait=True)
