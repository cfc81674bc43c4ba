"""Migrations in processes of their own that are killed, and what is left of them."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from support.forked import Forked
from vecmigrate import Procrustes, migrate, open_sink, open_source, save_translator
from vecmigrate.connector import Metric, TargetSpec, VectorBatch
from vecmigrate.state import open_state
from vecmigrate.state.ledger import ledger_path, open_ledger
from vecmigrate.state.migrations import MigrationTable

OLD_DIM, NEW_DIM = 8, 12
PAIRS = [("faiss", "faiss"), ("qdrant", "qdrant"), ("faiss", "qdrant"), ("qdrant", "faiss")]
POLL_SECONDS = 0.002
LATER_SECONDS = 0.03
"""How long after the point chosen a kill comes, at most: publishing takes about as long."""
STEP_POINTS = 30
STEPS_FILE = "state.sqlite.steps"


_PLACES = {
    "faiss": "faiss:{folder}/{name}.faiss",
    "parquet": "parquet:{folder}/{name}.parquet",
    "lancedb": "lancedb:{folder}/{name}-l/{name}",
    "qdrant": "qdrant:{folder}/{name}-q/{name}",
    "qdrant-edge": "qdrant-edge:{folder}/{name}-e",
}
STORES = tuple(_PLACES)
OTHER_PAIRS = [("parquet", "lancedb"), ("lancedb", "qdrant-edge"), ("qdrant-edge", "parquet")]
"""With :data:`PAIRS`, each store is once a source and once a target."""


def place(store: str, folder: Path, name: str) -> str:
    return _PLACES[store].format(folder=folder, name=name)


def make_source(store: str, folder: Path, points: int) -> str:
    """A collection with payloads of every shape, and ids with gaps."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((points, OLD_DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    payloads = [
        {"text": f"text {i}", "n": i, "nested": {"list": [i, None, "ü"], "deep": {"x": i / 7}}}
        if i % 5
        else {}
        for i in range(points)
    ]
    uri = place(store, folder, "old")
    spec = TargetSpec(dimension=OLD_DIM, metric=Metric.COSINE, text_field="text")
    with open_sink(uri, spec) as sink:
        sink.write(VectorBatch(np.arange(points) * 3 + 1, vectors, payloads))
        sink.finish()
    return uri


def make_translator(folder: Path) -> Path:
    rng = np.random.default_rng(1)
    path = folder / "translator"
    X, Y = rng.standard_normal((60, OLD_DIM)), rng.standard_normal((60, NEW_DIM))
    save_translator(Procrustes().fit(X, Y), path)
    return path


def contents(uri: str) -> dict[object, tuple[bytes, str]]:
    """Each point's vector, byte by byte, and payload."""
    found: dict[object, tuple[bytes, str]] = {}
    with open_source(uri) as source:
        for batch in source.batches(1000):
            payloads = batch.payloads or [{}] * len(batch)
            for point, vector, payload in zip(
                batch.ids.tolist(), batch.vectors, payloads, strict=True
            ):
                found[point] = (vector.tobytes(), json.dumps(payload, sort_keys=True))
    return found


def is_unfinished(uri: str) -> bool:
    """True where a collection is there and marked as one that is still being written."""
    with open_source(uri) as source:
        return any("unfinished" in note for note in source.describe().notes)


def arguments(
    source: str,
    target: str,
    translator: Path | None,
    state: Path,
    batch: int,
    more: Sequence[str] = (),
) -> list[str]:
    """A migration that makes every batch durable."""
    by = [] if translator is None else ["--translator", str(translator)]
    return [
        "migrate", source, target, *by, "--state", str(state),
        "--batch-size", str(batch), "--checkpoint-seconds", "0", "--json", *more,
    ]  # fmt: skip


def start(
    source: str,
    target: str,
    translator: Path | None,
    state: Path,
    batch: int,
    more: Sequence[str] = (),
) -> Forked:
    return Forked("-m", "vecmigrate", *arguments(source, target, translator, state, batch, more))


def migrate_with_kills(
    source: str,
    target: str,
    translator: Path | None,
    state: Path,
    *,
    kills: int,
    points: int,
    seed: int,
    batch: int,
    more: Sequence[str] = (),
) -> tuple[int, dict]:
    """Kill the migration up to ``kills`` times, each at a random instant, then let it end.

    An instant is a number of points durably written, from none to all, and some milliseconds:
    the clock alone would hit the start of the interpreter most of the time.

    Returns
    -------
    tuple
        How often it was killed while at work, and the last run's result.
    """
    rng = random.Random(seed)
    landed = done = 0
    for left in range(kills, 0, -1):
        process = start(source, target, translator, state, batch, more)
        # An even share of what is left, so that there is something to be killed every time.
        done = rng.randint(done, done + (points - done) // left)
        _wait_until_written(process, done, source, target, state)
        time.sleep(rng.uniform(0, LATER_SECONDS))
        process.send_signal(signal.SIGKILL)
        out, err = process.communicate()
        if process.returncode != -signal.SIGKILL:
            assert process.returncode == 0, out + err
            return landed, json.loads(out)
        landed += 1
    process = start(source, target, translator, state, batch, more)
    out, err = process.communicate()
    assert process.returncode == 0, out + err
    return landed, json.loads(out)


def check_a_kill_changes_nothing(
    folder: Path, whole: str, killed: str, *, kills: int = 1, points: int = 800, seed: int = 3,
    batch: int = 100,
) -> str:  # fmt: skip
    """Migrate FAISS points to ``whole``, and with kills to ``killed``; both hold the same.

    Returns the source.
    """
    make_translator(folder)
    source = make_source("faiss", folder, points)
    migrate(source, whole, folder / "translator", batch_size=batch)
    landed, result = migrate_with_kills(
        source, killed, folder / "translator", folder / "state.sqlite",
        kills=kills, points=points, seed=seed, batch=batch,
    )  # fmt: skip
    assert landed
    assert result["written"] == points
    assert contents(killed) == contents(whole)
    return source


def _wait_until_written(
    process: Forked, points: int, source: str, target: str, state: Path
) -> None:
    while process.poll() is None:
        if state.exists():
            with closing(open_state(state)) as connection:
                job = MigrationTable(connection).find(source, target)
            if job is not None and job.written >= points:
                return
        time.sleep(POLL_SECONDS)


# One process forks those that are killed, since importing takes longer than a small run. Counted
# are the calls by which Python touches a disk, whatever library makes them.
_FORKING = """
import json, os, signal, sys, threading
IMPORTS
from vecmigrate.cli import main
for line in sys.stdin:
    step, argv = json.loads(line)
    child = os.fork()
    if child == 0:
        left = [step]
        def count(frame, event, called):
            if event == "c_call" and called.__name__ in TOUCHING:
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.argv[1:] = argv
        BEGIN
        try:
            main()
        except SystemExit as ended:
            sys.setprofile(None)
            END
            os._exit(ended.code or 0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
_TOUCHING = {
    "open", "write", "writelines", "flush", "close", "fsync", "mkdir", "rmdir", "unlink",
    "replace", "rename", "execute", "commit",
}  # fmt: skip


def _forking(imports: str, touching: set[str], begin: str, end: str = "pass") -> str:
    code = _FORKING.replace("IMPORTS", f"import {imports}").replace("TOUCHING", repr(touching))
    code = code.replace("BEGIN", textwrap.indent(begin, " " * 8).lstrip())
    return code.replace("END", textwrap.indent(end, " " * 12).lstrip())


_MIGRATIONS = _forking(
    "vecmigrate_faiss.sink, vecmigrate_qdrant.sink, vecmigrate_qdrant.source, "
    "vecmigrate_qdrant.client.embedded, vecmigrate_qdrant.edge.access",
    _TOUCHING | {"remove", "truncate", "load", "update", "optimize"},
    "sys.setprofile(count)",
    """\
with open(argv[argv.index("--state") + 1] + ".steps", "w") as file:
    file.write(str(step - left[0]))""",
)
# Counted from when the target is opened for changes.
_SYNCS = _forking(
    "vecmigrate.sync.run, vecmigrate.sync.write, vecmigrate_faiss.updater, "
    "vecmigrate_qdrant.updater, vecmigrate_qdrant.own_points, vecmigrate_qdrant.source",
    _TOUCHING | {"executemany"},
    """\
opened = vecmigrate.sync.write.open_updater
def counting(*given):
    sys.setprofile(count)
    return opened(*given)
vecmigrate.sync.write.open_updater = counting""",
)


# Counted from when the locks are held.
_FORGETS = _forking(
    "vecmigrate.forget.run, vecmigrate.sync.write, vecmigrate_faiss.updater, "
    "vecmigrate_files.parquet.updater, vecmigrate_qdrant.updater, vecmigrate_qdrant.source",
    _TOUCHING | {"executemany"},
    """\
begun = vecmigrate.forget.run.Records
def counting(*given):
    sys.setprofile(count)
    return begun(*given)
vecmigrate.forget.run.Records = counting""",
)


class Stepper:
    """Runs commands that die before a chosen one of their calls that touch a disk."""

    def __init__(self, process: subprocess.Popen) -> None:
        self._process = process

    def run(self, step: int, argv: list[str]) -> int:
        """Return the exit code, negative for a signal; ``step`` 0 kills nothing."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps([step, argv]), file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())


@contextmanager
def stepper(*, syncs: bool = False, forgets: bool = False) -> Iterator[Stepper]:
    """Migrations, or syncs, or runs of ``forget``, to be killed."""
    code = _SYNCS if syncs else _FORGETS if forgets else _MIGRATIONS
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Stepper(process)
        assert process.stdin is not None
        process.stdin.close()


@dataclass(frozen=True)
class Ended:
    """A migration that was killed before a step, then before another one, then continued.

    Attributes
    ----------
    codes
        Its runs' exit codes.
    same
        True where all ended as it should: the target as an uninterrupted one's, with all its points
        in the ledger, and nothing beside it.
    """

    step: int
    codes: list[int]
    same: bool


def step_through(
    old: str, new: str, folder: Path, killer: Stepper, rng: random.Random, *, every: int
) -> Iterator[Ended]:
    """Kill a small migration before every ``every``-th of its steps, from a random one on."""
    pristine = folder / "pristine"
    pristine.mkdir()
    make_translator(pristine)
    make_source(old, pristine, STEP_POINTS)

    def argv(place_: Path) -> list[str]:
        source, target = place(old, place_, "old"), place(new, place_, "new")
        return arguments(
            source, target, place_ / "translator", place_ / "state.sqlite", STEP_POINTS // 3
        )

    whole = Path(shutil.copytree(pristine, folder / "whole"))
    assert killer.run(0, argv(whole)) == 0
    steps = int((whole / STEPS_FILE).read_text())
    expected, names = contents(place(new, whole, "new")), {path.name for path in whole.iterdir()}
    for step in range(rng.randint(1, every), steps + 1, every):
        here = Path(shutil.copytree(pristine, folder / f"step{step}"))
        codes = [killer.run(n, argv(here)) for n in (step, rng.randint(1, steps), 0)]
        target = place(new, here, "new")
        with open_ledger(ledger_path(here / "state.sqlite", target)) as ledger:
            known = sum(ledger.origins().values())
        same = (
            codes[-1] == 0
            and contents(target) == expected
            and known == len(expected)
            and {path.name for path in here.iterdir()} == names
        )
        yield Ended(step, codes, same)
        shutil.rmtree(here)
