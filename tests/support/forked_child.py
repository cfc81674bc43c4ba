"""What support.forked runs in its processes, each of which imports this module and not that one."""

from __future__ import annotations

import os
import runpy
import signal
import sys
import tempfile
from multiprocessing.connection import Connection


class Surroundings:
    """What a process gets from the one that starts it, beside what multiprocessing passes on."""

    def __init__(self) -> None:
        self._environment = dict(os.environ)
        self._heeds_ctrl_c = signal.getsignal(signal.SIGINT) is not signal.SIG_IGN

    def take(self) -> None:
        os.environ.clear()
        os.environ.update(self._environment)
        tempfile.tempdir = None
        ctrl_c = signal.default_int_handler if self._heeds_ctrl_c else signal.SIG_IGN
        signal.signal(signal.SIGINT, ctrl_c)


def begin(
    streams: tuple[Connection, ...], surroundings: Surroundings, given: tuple[str, ...]
) -> None:
    """Run what follows ``python`` with the pipes as its streams."""
    surroundings.take()
    for number, stream in enumerate(streams):
        os.dup2(stream.fileno(), number)
        stream.close()
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    how, what, *rest = given
    sys.argv[:] = [what if how == "-m" else how, *rest]
    if how == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
