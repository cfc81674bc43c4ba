"""Which process a run is, and whether it is still there."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from vecmigrate.runtime.process import Process

LONGEST_SECONDS = 60.0


def test_a_process_is_there_until_it_ends() -> None:
    """Though nobody has asked yet how it ended, so that the system keeps its number."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        this = Process.this()
        assert this.is_there()
        started = Process.of(child.pid)
        assert started.is_there()
        child.kill()
        deadline = time.monotonic() + LONGEST_SECONDS
        while started.is_there():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert started.is_there() is False
    assert started.is_there() is False


def test_another_process_of_the_same_number_is_not_taken_for_it() -> None:
    this = Process.this()
    if this.started is None:
        pytest.skip("this system does not tell when a process began")
    assert this.model_copy(update={"started": "earlier"}).is_there() is False


def test_a_process_of_another_machine_is_not_seen() -> None:
    assert Process(pid=os.getpid(), host="another.example", started=None).is_there() is None
