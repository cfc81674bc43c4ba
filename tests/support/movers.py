"""A source, a target in any store, and commands that move one to the other, or wait at work."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from typer.testing import CliRunner

from support.corpus import unit
from support.forked import Forked
from support.leases import SERVERS, Target
from vecmigrate import Procrustes, open_sink, open_source, open_updater, save_translator
from vecmigrate.cli import app
from vecmigrate.connector import Metric, Provenance, TargetSpec, VectorBatch
from vecmigrate.errors import ExitCode

OLD, NEW, COUNT = 6, 8, 60
MADE = Provenance(vecmigrate_version="0", source="faiss:none", created_at="2026-01-01")
SWITCHED = ["faiss", "embedded", *SERVERS]
# A command that waits, at the place that is named, until its input ends or it is asked to stop.
WAITING = """
import sys, select, time
where = sys.argv.pop(1)
def wait(stop=lambda: False):
    print("at work", flush=True)
    while not stop() and not select.select([sys.stdin], [], [], 0.05)[0]:
        pass
if where == "sync":
    from vecmigrate.sync.run import _Run as Run
    asked = Run._stop_if_asked
    def stopping(self):
        Run._stop_if_asked = asked
        wait(self._callbacks.stop)
        asked(self)
    Run._stop_if_asked = stopping
elif where == "migrate":
    from vecmigrate.migration import move
    class Move(move.Move):
        def publish(self):
            with self.progress.suspending(self._sink):
                wait(self.callbacks.stop)
                if self.callbacks.stop():
                    raise self.progress.stopped(self._sink)
            return super().publish()
    move.Move = Move
else:
    from vecmigrate.cutover import move
    led = move._led
    def leading(*given):
        wait()
        return led(*given)
    move._led = leading
from vecmigrate.cli import main
main()
"""


class Job:
    """A source that changed since it was migrated to a target, and two state files.

    The state file ``here`` knows of the migration, and ``there`` of nothing.
    """

    def __init__(self, target: Target) -> None:
        self._place = target
        folder = self.folder = target.folder
        self.target, self.lease = target.uri, target.lease
        self.source = f"faiss:{folder}/old.faiss"
        self.translator = folder / "t.safetensors"
        rng = np.random.default_rng(0)
        self.rows = unit(rng.standard_normal((2 * COUNT, OLD)))
        fitted = Procrustes().fit(self.rows, unit(rng.standard_normal((2 * COUNT, NEW))))
        save_translator(fitted, self.translator)
        spec = TargetSpec(dimension=OLD, metric=Metric.COSINE, text_field="text", provenance=MADE)
        with open_sink(self.source, spec) as sink:
            sink.write(self.points(range(COUNT)))
            sink.finish()

    def points(self, ids: range) -> VectorBatch:
        payloads = [{"text": f"text {i}"} for i in ids]
        return VectorBatch(np.array(ids), np.ascontiguousarray(self.rows[list(ids)]), payloads)

    def change(self) -> None:
        """What a sync is to bring."""
        with open_updater(self.source, MADE) as updater:
            updater.upsert(self.points(range(COUNT, COUNT + 20)))
            updater.finish()

    def drop(self, ids: range) -> None:
        """What a sync is to delete."""
        with open_updater(self.source, MADE) as updater:
            updater.delete(np.array(ids))
            updater.finish()

    def argv(self, command: str, where: str = "here", *more: str) -> list[str]:
        state = ["--state", str(self.folder / where / "state.sqlite"), *more]
        if command == "cutover":
            return ["cutover", self.live, "--to", self.target, *state]
        if command == "forget":
            asked = ["--target", self.target, "--still-at-source", "--in", str(self.folder)]
            return ["forget", "7", *asked, *state]
        if command in ("rollback", "drop-source"):
            return [command, self.live, *state]
        return [
            command, self.source, self.target, "--translator", str(self.translator), *state,
            *(["--batch-size", "10"] if command in ("sync", "migrate") else []),
        ]  # fmt: skip

    @property
    def live(self) -> str:
        """The name that readers open."""
        return self._named("live")

    @property
    def another(self) -> str:
        """Another target."""
        if self._place.server is not None:
            return self._place.server.uri(self._place.server.name())
        return self._named("newer")

    def _named(self, name: str) -> str:
        before, question, options = self._place.uri.partition("?")
        folder, _, first = before.rpartition("/")
        name += ".faiss" if first.endswith(".faiss") else ""
        # Names on a server are everybody's.
        name = f"{first}-{name}" if self._place.server is not None else name
        return f"{folder}/{name}{question}{options}"

    def run(self, command: str, where: str = "here", *more: str) -> tuple[int, str]:
        ran = CliRunner().invoke(app, self.argv(command, where, *more))
        return ran.exit_code, ran.output.replace("\n", " ")

    def does(self, command: str, where: str = "here", *more: str) -> None:
        code, said = self.run(command, where, *more)
        assert code == ExitCode.OK, said

    def is_locked(self, command: str, who: Forked, *more: str) -> None:
        """The command, by the other state file, ends with 12 and names who is at work."""
        code, said = self.run(command, "there", *more)
        assert code == ExitCode.LOCKED, said
        assert f"process {who.pid} on " in said

    @contextmanager
    def at_work(self, command: str, *more: str) -> Iterator[Forked]:
        """A process at work on the target until its input ends; it then ends well."""
        # What leads readers over does so once all is checked, and others wait for a first batch.
        where = command if command in ("sync", "migrate") else "cutover"
        with Forked("-c", WAITING, where, *self.argv(command, "here", *more)) as process:
            said = process.stdout.readline()
            while said and said != "at work\n":
                said = process.stdout.readline()
            if not said:
                raise AssertionError(process.communicate())
            yield process
            out, err = process.communicate()
            assert process.returncode in (0, 143, -signal.SIGKILL), out + err

    def ids(self) -> set[int]:
        with open_source(self.target) as source:
            return {i for ids in source.ids(1000) for i in ids.tolist()}
