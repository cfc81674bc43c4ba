"""Readers are led to a new collection and back, and at no instant see anything else."""

from __future__ import annotations

import json
import os
import random
import re
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from support.corpus import NEW_DIM, OLD_DIM, Corpus, N
from support.qdrant.places import Place, open_place, points
from typer.testing import CliRunner

from vecmigrate import Procrustes, migrate, open_source, save_translator
from vecmigrate.cli import app
from vecmigrate.connector import EncoderIdentity, parse_uri
from vecmigrate.connector.addresses import followed_place
from vecmigrate.connector.registry import require_switcher
from vecmigrate.cutover import cut_over, drop_source, plan_drop, roll_back
from vecmigrate.cutover.readers import name_uri
from vecmigrate.errors import ExitCode, InputError, MismatchError, NotVerifiedError, UsageError
from vecmigrate.sync import status_of
from vecmigrate.verification import verify
from vecmigrate.verification.records import VerificationLog

OLD = EncoderIdentity(name="old-model", dimension=OLD_DIM, normalized=True)
NEW = EncoderIdentity(name="new-model", dimension=NEW_DIM, normalized=True)


@pytest.fixture
def state() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:")
    yield connection
    connection.close()


@pytest.fixture
def translator(corpus: Corpus) -> Path:
    path = corpus.folder / "t.safetensors"
    fitted = Procrustes().fit(corpus.old[:100], corpus.new[:100])
    save_translator(fitted, path, source_encoder=OLD, target_encoder=NEW)
    return path


@pytest.fixture(params=["embedded", "rest", "grpc"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with open_place(request.param, tmp_path) as opened:
        yield opened


def verified(source: str, target: str, translator: Path, state: sqlite3.Connection) -> None:
    VerificationLog(state).add(followed_place(target), verify(source, target, translator))


def seen(uri: str) -> tuple[int, int]:
    with open_source(uri) as source:
        found = source.describe()
        assert sum(len(batch) for batch in source.batches(1000)) == found.count
        return found.count, found.dimension


def test_faiss_readers_go_over_and_back(
    corpus: Corpus, translator: Path, state: sqlite3.Connection
) -> None:
    folder = corpus.folder
    name, target = corpus.source, f"faiss:{folder}/new.faiss"
    migrate(name, target, translator)
    with pytest.raises(NotVerifiedError, match="has not been verified"):
        cut_over(name, target, state)
    verified(name, target, translator, state)
    shown = cut_over(name, target, state, dry_run=True)
    assert (shown.done, seen(name)) == (False, (N, OLD_DIM))
    assert not (folder / "old.faiss").is_symlink()
    move = cut_over(name, target, state)
    assert move.done
    assert move.before is not None
    assert (move.before.dimension, move.after.dimension) == (OLD_DIM, NEW_DIM)
    assert (move.before.encoder, move.after.encoder) == (OLD, NEW)
    assert move.kept == f"faiss:{folder}/old.faiss.generations/1/old.faiss"
    assert seen(name) == (N, NEW_DIM)
    assert faiss.read_index(str(folder / "old.faiss")).d == NEW_DIM
    with open_source(name) as source:
        assert source.texts([3]) == ["text number 3"]
    back = roll_back(name, state)
    assert back.after.encoder == OLD
    assert seen(name) == (N, OLD_DIM)
    with open_source(name) as source:
        assert source.texts([3]) == ["text number 3"]
    with pytest.raises(MismatchError, match="is recorded"):
        roll_back(name, state)


def test_faiss_source_is_dropped_only_when_nothing_is_lost(
    corpus: Corpus, translator: Path, state: sqlite3.Connection
) -> None:
    folder = corpus.folder
    name, target = corpus.source, f"faiss:{folder}/new.faiss"
    migrate(name, target, translator)
    cut_over(name, target, state, unverified=True)
    with pytest.raises(NotVerifiedError):
        plan_drop(name, None, state)
    old = f"faiss:{folder}/old.faiss.generations/1/old.faiss"
    verified(old, target, translator, state)
    with pytest.raises(MismatchError, match="is what readers"):
        plan_drop(name, target, state)
    plan = plan_drop(name, None, state)
    assert plan.belongings == (old.removeprefix("faiss:"),)
    assert seen(old) == (N, OLD_DIM)
    assert drop_source(name, None, state).done
    assert seen(name) == (N, NEW_DIM)
    assert not Path(old.removeprefix("faiss:")).exists()
    texts = Path(old.removeprefix("faiss:")).with_name("old.jsonl")
    assert texts.exists(), "texts that vecmigrate did not write are the user's"
    with pytest.raises(InputError, match="was deleted"):
        roll_back(name, state)


def test_a_target_or_source_that_changed_is_noticed(
    corpus: Corpus, translator: Path, state: sqlite3.Connection
) -> None:
    folder = corpus.folder
    name, target = f"faiss:{folder}/live.faiss", f"faiss:{folder}/new.faiss"
    migrate(corpus.source, target, translator)
    verified(corpus.source, target, translator, state)
    index = faiss.read_index(str(folder / "old.faiss"))
    index.add(corpus.old[:1])
    faiss.write_index(index, str(folder / "old.faiss"))
    move = cut_over(name, target, state)
    assert any("changed since the verification" in note for note in move.notes)
    with pytest.raises(NotVerifiedError, match="may hold what the new"):
        plan_drop(name, corpus.source, state)
    with pytest.raises(MismatchError, match="had nothing before"):
        roll_back(name, state)
    index = faiss.read_index(str(folder / "new.faiss"))
    index.add(corpus.new[:1])
    faiss.write_index(index, str(folder / "new.faiss"))
    with pytest.raises(NotVerifiedError, match="changed since it was verified"):
        cut_over(name, target, state)


def test_a_failed_verification_keeps_readers_where_they_are(
    corpus: Corpus, translator: Path, state: sqlite3.Connection
) -> None:
    folder = corpus.folder
    target = f"faiss:{folder}/new.faiss"
    migrate(corpus.source, target, translator)
    other = folder / "other.safetensors"
    save_translator(Procrustes().fit(corpus.old[:50], corpus.new[50:100]), other)
    verified(corpus.source, target, other, state)
    with pytest.raises(NotVerifiedError, match=r"failed its verification .*\(vectors\)"):
        cut_over(corpus.source, target, state)
    assert cut_over(corpus.source, target, state, unverified=True).done


def test_qdrant_readers_go_over_and_back(
    place: Place, corpus: Corpus, translator: Path, state: sqlite3.Connection
) -> None:
    old, new, alias = (place.uri(place.name(n)) for n in ("old", "new", "live"))
    first = Procrustes().fit(corpus.old[:100], corpus.old[:100])
    save_translator(first, corpus.folder / "same.safetensors")
    migrate(corpus.source, old, corpus.folder / "same.safetensors")
    migrate(old, new, translator)
    name = alias.partition("?")[0].rpartition("/")[2]
    cut_over(alias, old, state, unverified=True)
    verified(old, new, translator, state)
    move = cut_over(name, new, state)
    assert move.before is not None
    assert (move.before.encoder, move.after.encoder) == (OLD, NEW)
    assert seen(alias) == (N, NEW_DIM)
    assert not cut_over(alias, new, state).done
    with place.client() as client:
        aliases = client.get_aliases().aliases
    assert [a.alias_name for a in aliases] == [name]
    assert roll_back(alias, state).done
    assert seen(alias) == (N, OLD_DIM)
    cut_over(alias, new, state)
    plan = plan_drop(alias, None, state)
    assert f"({N} points)" in plan.belongings[0]
    with pytest.raises(MismatchError, match="neither"):
        plan_drop(alias, corpus.source, state)
    drop_source(alias, None, state)
    with pytest.raises(InputError):
        seen(old)
    assert seen(alias) == (N, NEW_DIM)


def test_a_collection_that_readers_never_had_is_dropped_by_its_name_alone(
    place: Place, corpus: Corpus, translator: Path, state: sqlite3.Connection
) -> None:
    old, new, alias = (place.uri(place.name(n)) for n in ("old", "new", "live"))
    save_translator(
        Procrustes().fit(corpus.old[:100], corpus.old[:100]), corpus.folder / "same.safetensors"
    )
    migrate(corpus.source, old, corpus.folder / "same.safetensors")
    migrate(old, new, translator)
    verified(old, new, translator, state)
    assert cut_over(alias, new, state).kept is None
    for drop in (plan_drop, drop_source):
        with pytest.raises(MismatchError, match="had nothing"):
            drop(alias, None, state)
    assert seen(old) == (N, OLD_DIM)
    assert drop_source(alias, old, state).done
    with pytest.raises(InputError):
        seen(old)
    told = status_of(new, corpus.folder / "none.sqlite", state)
    assert (told.source_dropped, told.readers) == (True, (alias.partition("?")[0],))


def test_a_collection_cannot_be_an_alias(place: Place, state: sqlite3.Connection) -> None:
    old, new = place.name("old"), place.name("new")
    place.write(old, points([1, 2, 3]))
    place.write(new, points([1, 2, 3]))
    with pytest.raises(MismatchError, match="renames no collection") as error:
        cut_over(place.uri(old), place.uri(new), state, unverified=True)
    assert f"{old}-live" in error.value.remedy
    with pytest.raises(UsageError):
        cut_over(place.uri(old), place.uri(old), state, unverified=True)
    with pytest.raises(InputError):
        cut_over(place.uri("live"), place.uri("none"), state, unverified=True)
    other = "qdrant:/elsewhere/live"
    with pytest.raises(UsageError, match="not in one Qdrant"):
        cut_over(other, place.uri(new), state, unverified=True)
    with pytest.raises(UsageError, match="two stores"):
        cut_over("faiss:x.faiss", place.uri(new), state, unverified=True)


def test_an_alias_keeps_its_collection_from_being_dropped(place: Place) -> None:
    name, live = place.name("c"), place.name("live")
    place.write(name, points([1, 2]))
    switcher = require_switcher(place.uri(name))
    switcher.switch(parse_uri(place.uri(live)), parse_uri(place.uri(name)))
    with pytest.raises(MismatchError, match="readers of the alias"):
        switcher.drop(parse_uri(place.uri(name)))
    with pytest.raises(MismatchError, match="is an alias"):
        switcher.drop(parse_uri(place.uri(live)))
    assert place.exists(name)


def test_names_beside_a_target() -> None:
    assert name_uri("live", "qdrant://h:1/new?grpc=false") == "qdrant://h:1/live?grpc=false"
    assert name_uri("live.faiss", "faiss:new.faiss") == "faiss:live.faiss"
    assert name_uri("live.faiss", "faiss:a/new.faiss") == "faiss:a/live.faiss"
    assert name_uri("faiss:x", "faiss:a/new.faiss") == "faiss:x"


def test_qdrant_readers_never_see_a_gap(
    corpus: Corpus, translator: Path, state: sqlite3.Connection
) -> None:
    with open_place("rest", corpus.folder) as place:
        old, new, alias = (place.name(n) for n in ("old", "new", "live"))
        for collection, count in ((old, 30), (new, 40)):
            place.write(collection, points(list(range(count))))
        uri = place.uri(alias)
        cut_over(uri, place.uri(old), state, unverified=True)
        switcher, live = require_switcher(uri), parse_uri(uri)
        first, second = parse_uri(place.uri(old)), parse_uri(place.uri(new))
        counts: list[int] = []
        problems: list[BaseException] = []
        stop = threading.Event()

        def read() -> None:
            with place.client() as client:
                while not stop.is_set():
                    try:
                        found = client.scroll(alias, limit=100, with_payload=True)[0]
                        counts.append(len(found))
                    except BaseException as error:
                        problems.append(error)

        reader = threading.Thread(target=read)
        reader.start()
        for _ in range(50):
            switcher.switch(live, second)
            switcher.switch(live, first)
        cut_over(uri, place.uri(new), state, unverified=True)
        roll_back(uri, state)
        stop.set()
        reader.join()
        assert problems == []
        assert set(counts) == {30, 40}


READER = """
import sys
from pathlib import Path
from vecmigrate import open_source
name, stop, expected, seen = sys.argv[1], Path(sys.argv[2]), eval(sys.argv[3]), {}
print("ready", flush=True)
while not stop.exists():
    with open_source(name) as source:
        found = source.describe()
        batch = next(source.batches(1000))
        kind = (found.count, found.dimension, len(batch), batch.vectors.shape[1],
                batch.payloads[0]["generation"], *source.search(batch.vectors[:1], 1)[0].tolist())
        assert kind in expected, kind
        seen[kind] = seen.get(kind, 0) + 1
print(seen)
"""


def two_generations(folder: Path) -> dict[str, int]:
    """An index of a user's own with a flat sidecar, and one that vecmigrate wrote."""
    from vecmigrate import open_sink
    from vecmigrate.connector import Metric, TargetSpec, VectorBatch

    index = faiss.IndexFlatL2(OLD_DIM)
    index.add(np.eye(50, OLD_DIM, dtype=np.float32) + np.arange(50, dtype=np.float32)[:, None])
    faiss.write_index(index, str(folder / "live.faiss"))
    lines = (json.dumps({"id": i, "generation": "old"}) + "\n" for i in range(50))
    (folder / "live.jsonl").write_text("".join(lines))
    spec = TargetSpec(dimension=NEW_DIM, metric=Metric.EUCLID)
    with open_sink(f"faiss:{folder}/new.faiss", spec) as sink:
        rows = np.eye(60, NEW_DIM, dtype=np.float32) + np.arange(60, dtype=np.float32)[:, None]
        sink.write(VectorBatch(np.arange(60), rows, [{"generation": "new"}] * 60))
        sink.finish()
    return {"old": 50, "new": 60}


EXPECTED = [(50, OLD_DIM, 50, OLD_DIM, "old", 0), (60, NEW_DIM, 60, NEW_DIM, "new", 0)]


def test_faiss_readers_never_see_a_mixture(tmp_path: Path, state: sqlite3.Connection) -> None:
    two_generations(tmp_path)
    name, target = f"faiss:{tmp_path}/live.faiss", f"faiss:{tmp_path}/new.faiss"
    with subprocess.Popen(
        [sys.executable, "-c", READER, name, str(tmp_path / "stop"), repr(EXPECTED)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as reader:  # fmt: skip
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
        cut_over(name, target, state, unverified=True)
        switcher, live = require_switcher(name), parse_uri(name)
        old, new = parse_uri(roll_back(name, state).after.collection), parse_uri(target)
        for number in range(200):
            switcher.switch(live, old if number % 2 else new)
            # A reader that finds the files changed while it opens them opens them again.
            time.sleep(0 if number % 21 else 0.1)
        (tmp_path / "stop").touch()
        out, err = reader.communicate()
    assert reader.returncode == 0, err
    assert "'old'" in out, out
    assert "'new'" in out, out
    numbers = {p.name for p in (tmp_path / "live.faiss.generations").iterdir()}
    assert numbers == {"1", "2", "current"}


# One process that is never killed forks those that are: importing takes longer than a cutover.
KILLER = """
import os, signal, sqlite3, sys, time
from vecmigrate.cutover import cut_over, roll_back
from vecmigrate.connector.registry import require_switcher
require_switcher("faiss:x")
for line in sys.stdin:
    folder, seconds = line.split()
    child = os.fork()
    if child == 0:
        state = sqlite3.connect(folder + "/state.sqlite")
        while True:
            cut_over(f"faiss:{folder}/live.faiss", f"faiss:{folder}/new.faiss", state,
                     unverified=True)
            roll_back(f"faiss:{folder}/live.faiss", state)
    time.sleep(float(seconds))
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    print("killed", flush=True)
"""


def test_a_faiss_cutover_killed_at_any_instant_leaves_one_generation(tmp_path: Path) -> None:
    two_generations(tmp_path)
    pristine = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    rng = random.Random(0)
    found: list[str] = []
    with subprocess.Popen(
        [sys.executable, "-c", KILLER],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as killer:  # fmt: skip
        assert killer.stdin is not None
        assert killer.stdout is not None
        for attempt in range(12):
            folder = tmp_path / f"run{attempt}"
            folder.mkdir()
            for file, content in pristine.items():
                (folder / file).write_bytes(content)
            print(folder, rng.random() * 0.25, file=killer.stdin, flush=True)
            assert killer.stdout.readline() == "killed\n"
            name, target = f"faiss:{folder}/live.faiss", f"faiss:{folder}/new.faiss"
            with open_source(name) as source:
                batch = next(source.batches(1000))
                found.append((batch.payloads or [{}])[0]["generation"])
            assert len(batch) == {"old": 50, "new": 60}[found[-1]]
            with sqlite3.connect(folder / "state.sqlite") as connection:
                if found[-1] == "new":
                    roll_back(name, connection)
                assert seen(name) == (50, OLD_DIM)
                assert cut_over(name, target, connection, unverified=True).done
                assert seen(name) == (60, NEW_DIM)
                assert roll_back(name, connection).done
                assert seen(name) == (50, OLD_DIM)
        killer.stdin.close()


STEPPER = """
import os, signal, sqlite3, sys
from vecmigrate.cutover import cut_over
from vecmigrate.connector.registry import require_switcher
require_switcher("faiss:x")
CHANGES = {"os.rename", "os.symlink", "os.link", "os.remove", "os.mkdir", "os.rmdir"}
for line in sys.stdin:
    folder, step = line.split()
    child = os.fork()
    if child == 0:
        left = [int(step)]
        def count(event, _):
            if event in CHANGES:
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(count)
        state = sqlite3.connect(folder + "/state.sqlite")
        cut_over(f"faiss:{folder}/live.faiss", f"faiss:{folder}/new.faiss", state,
                 unverified=True)
        os._exit(0)
    print(os.waitpid(child, 0)[1], flush=True)
"""


def test_a_faiss_cutover_killed_before_each_of_its_steps(tmp_path: Path) -> None:
    two_generations(tmp_path)
    pristine = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    found: list[str] = []
    with subprocess.Popen(
        [sys.executable, "-c", STEPPER],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as stepper:  # fmt: skip
        assert stepper.stdin is not None
        assert stepper.stdout is not None
        ended = -1
        while ended != 0:
            folder = tmp_path / f"step{len(found)}"
            folder.mkdir()
            for file, content in pristine.items():
                (folder / file).write_bytes(content)
            print(folder, len(found), file=stepper.stdin, flush=True)
            ended = int(stepper.stdout.readline())
            name, target = f"faiss:{folder}/live.faiss", f"faiss:{folder}/new.faiss"
            with open_source(name) as source:
                batch = next(source.batches(1000))
                found.append((batch.payloads or [{}])[0]["generation"])
                assert len(batch) == source.describe().count == {"old": 50, "new": 60}[found[-1]]
            assert faiss.read_index(str(folder / "live.faiss")).ntotal == len(batch)
            with sqlite3.connect(folder / "state.sqlite") as connection:
                cut_over(name, target, connection, unverified=True)
                assert seen(name) == (60, NEW_DIM)
                assert roll_back(name, connection).after.count == 50
            assert seen(name) == (50, OLD_DIM)
            generations = {p.name for p in (folder / "live.faiss.generations").iterdir()}
            assert generations <= {"1", "2", "current", "lease", ".new"}
        stepper.stdin.close()
    assert len(found) > 15
    assert found == sorted(found, key=["old", "new"].index), "readers are led over once"


def test_a_link_of_the_users_own_is_adopted(corpus: Corpus, state: sqlite3.Connection) -> None:
    folder = corpus.folder
    (folder / "live.faiss").symlink_to("old.faiss")
    index = faiss.IndexFlatIP(NEW_DIM)
    index.add(corpus.new)
    faiss.write_index(index, str(folder / "new.faiss"))
    name = f"faiss:{folder}/live.faiss"
    move = cut_over(name, f"faiss:{folder}/new.faiss", state, unverified=True)
    assert move.kept == corpus.source
    assert seen(name) == (N, NEW_DIM)
    roll_back(name, state)
    assert seen(name) == (N, OLD_DIM)
    assert not (folder / "old.faiss").is_symlink()


def test_a_file_put_over_a_link_is_kept(corpus: Corpus, state: sqlite3.Connection) -> None:
    folder = corpus.folder
    two_generations(folder)
    name, target = f"faiss:{folder}/live.faiss", f"faiss:{folder}/new.faiss"
    cut_over(name, target, state, unverified=True)
    assert not (folder / "live.jsonl").is_symlink(), "only the old generation has such a file"
    (folder / "live.jsonl").write_text("{}")
    with pytest.raises(MismatchError, match="would be lost"):
        roll_back(name, state)
    (folder / "live.jsonl").unlink()
    index = faiss.IndexFlatIP(NEW_DIM)
    index.add(corpus.new[:7])
    faiss.write_index(index, str(folder / "fresh"))
    (folder / "fresh").replace(folder / "live.faiss")
    assert cut_over(name, target, state, unverified=True).done
    assert seen(name) == (60, NEW_DIM)
    kept = roll_back(name, state).after
    assert kept.count == 7


def command(*arguments: object, code: int = 0) -> tuple[str, str]:
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


def test_the_commands_from_migrate_to_drop(
    corpus: Corpus, translator: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = corpus.folder
    monkeypatch.chdir(folder)
    name, target = "faiss:old.faiss", "faiss:new.faiss"
    command("migrate", name, target, "--translator", translator, "-q")
    _, err = command("cutover", name, "--to", target, code=ExitCode.NOT_VERIFIED)
    assert err == (
        "error: faiss:new.faiss has not been verified. Run: vecmigrate verify SOURCE "
        "faiss:new.faiss --translator FILE.\n"
    )
    options = f"{target}?text=text"
    command("verify", f"{name}?text=text", options, "--translator", translator, "-q")
    out, _ = command("cutover", name, "--to", target, "--dry-run")
    assert "Nothing was changed." in out.splitlines()[-1]
    assert "new-model (24 dimensions, unit length) from the switch on" in out
    out, _ = command("cutover", name, "--to", target)
    assert "old-model (16 dimensions, unit length)" in out
    assert out.splitlines()[-1].endswith("back with: vecmigrate rollback 'faiss:old.faiss'")
    assert seen(name) == (N, NEW_DIM)
    state = (folder / os.environ.get("VECMIGRATE_STATE", ".vecmigrate/state.sqlite")).resolve()
    monkeypatch.chdir("/")
    out, _ = command("rollback", f"faiss:{folder}/old.faiss", "--state", state)
    assert out.splitlines()[-1].startswith("Next: vecmigrate cutover")
    monkeypatch.chdir(folder)
    assert seen(name) == (N, OLD_DIM)
    shown = json.loads(command("cutover", name, "--to", target, "--json")[0])
    assert (shown["done"], shown["after"]["dimension"]) == (True, NEW_DIM)
    listed = json.loads(command("drop-source", name, "--json")[0])
    assert (listed["deleted"], len(listed["belongings"])) == (False, 1)
    kept = folder / "old.faiss.generations" / "1" / "old.faiss"
    assert kept.exists()
    assert command("drop-source", name, "--yes", "-q") == ("", "")
    assert not kept.exists()
    command("rollback", name, code=ExitCode.BAD_INPUT)
    command("rollback", "faiss:new.faiss", code=ExitCode.MISMATCH)
    _, err = command("rollback", name, "--state", translator, code=ExitCode.BAD_INPUT)
    assert "is not a state file" in err


def test_a_target_that_applications_write_to_can_replace_its_source(
    corpus: Corpus, translator: Path, state: sqlite3.Connection
) -> None:
    folder = corpus.folder
    name, target = corpus.source, f"faiss:{folder}/new.faiss"
    migrate(name, target, translator)
    verified(name, target, translator, state)
    cut_over(name, target, state)
    index = faiss.read_index(str(folder / "new.faiss"))
    index.add(corpus.new[:1])
    faiss.write_index(index, str(folder / "new.faiss"))
    with pytest.raises(NotVerifiedError, match="changed since"):
        plan_drop(name, None, state)
    assert plan_drop(name, None, state, target_changed=True).belongings
    old = folder / "old.faiss.generations" / "1" / "old.faiss"
    index = faiss.read_index(str(old))
    index.add(corpus.old[:1])
    faiss.write_index(index, str(old))
    with pytest.raises(NotVerifiedError, match="may hold what the new"):
        plan_drop(name, None, state, target_changed=True)


def test_the_reader_of_the_docs_reads_one_generation(
    tmp_path: Path, state: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_generations(tmp_path)
    (tmp_path / "live.faiss").rename(tmp_path / "current.faiss")
    (tmp_path / "live.jsonl").rename(tmp_path / "current.jsonl")
    cut_over(
        f"faiss:{tmp_path}/current.faiss", f"faiss:{tmp_path}/new.faiss", state, unverified=True
    )
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "cut-over.md").read_text()
    [code] = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["index"].ntotal == names["texts"].count("generation") == 60
