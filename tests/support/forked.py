"""Processes that a warm one forks, since importing takes longer than what most of them do.

They have a process of their own and its pipes, but no start of an interpreter: what a start does is
tested with ``subprocess``.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import threading
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.util import get_temp_dir
from typing import IO, Self

from support.forked_child import Surroundings, begin

# The server's socket lies there, and a test may move where temporary files are made.
get_temp_dir()
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    [
        "vecmigrate.cli",
        "vecmigrate.sync.run",
        "vecmigrate.sync.write",
        "vecmigrate.translators.procrustes",
        "vecmigrate_faiss.sink",
        "vecmigrate_faiss.updater",
        "vecmigrate_qdrant.client.embedded",
        "vecmigrate_qdrant.edge.access",
        "vecmigrate_qdrant.own_points",
        "vecmigrate_qdrant.sink",
        "vecmigrate_qdrant.source",
        "vecmigrate_qdrant.updater",
    ]
)


class Forked:
    """A process of its own, to be used as one of ``subprocess.Popen`` with pipes of text.

    Parameters
    ----------
    arguments
        What follows ``python``: ``-m``, a module and its arguments, or ``-c``, code and its own.
    """

    def __init__(self, *arguments: str) -> None:
        theirs_in, ours_in = _SERVER.Pipe(duplex=False)
        ours_out, theirs_out = _SERVER.Pipe(duplex=False)
        ours_err, theirs_err = _SERVER.Pipe(duplex=False)
        streams = theirs_in, theirs_out, theirs_err
        self._process = _SERVER.Process(
            target=begin, args=(streams, Surroundings(), arguments), daemon=True
        )
        self._process.start()
        for stream in streams:
            stream.close()
        self.stdin, self.stdout, self.stderr = (
            _opened(ours_in, "w"), _opened(ours_out, "r"), _opened(ours_err, "r"),
        )  # fmt: skip
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.kill()
        self.communicate()
        self.stdout.close()
        self.stderr.close()

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        code = self.returncode
        if code is None:
            raise subprocess.TimeoutExpired("a forked process", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Close its input, and return what it says until its end."""
        self._close_stdin()
        said: dict[str, str] = {}

        def read(name: str, stream: IO[str]) -> None:
            said[name] = stream.read()

        readers = [
            threading.Thread(target=read, args=pair, daemon=True)
            for pair in (("out", self.stdout), ("err", self.stderr))
        ]
        for reader in readers:
            reader.start()
        self.wait(timeout)
        for reader in readers:
            reader.join()
        return said["out"], said["err"]

    def _close_stdin(self) -> None:
        with suppress(BrokenPipeError):
            self.stdin.close()


def run_forked(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end, as ``subprocess.run``."""
    process = Forked(*arguments)
    out, err = process.communicate()
    return subprocess.CompletedProcess(arguments, process.wait(), out, err)


def _opened(end: Connection, mode: str) -> IO[str]:
    with end:
        return os.fdopen(os.dup(end.fileno()), mode)
