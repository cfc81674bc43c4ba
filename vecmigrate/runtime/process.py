"""Which process a run is, and whether it is still there."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Self

from pydantic import BaseModel

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_PIDS = Path("/proc/self/ns/pid")
_STATE, _START = 0, 19
"""Fields of /proc/PID/stat after the command's name: see proc(5), where they are 3 and 22."""


def machine_identity() -> str | None:
    """Tell this machine, and the container on it, from any other; None if the system does not.

    Two processes of the same see each other's numbers. A name would not do: machines made from one
    image have the same.
    """
    with suppress(OSError):
        return f"{_BOOT.read_text().strip()}:{_PIDS.readlink()}"
    return None


class Process(BaseModel, frozen=True):
    """A process.

    Attributes
    ----------
    started
        When it began, in the system's own terms, so that a later process of the same number is not
        taken for it; None if the system does not tell.
    """

    pid: int
    host: str
    started: str | None

    @classmethod
    def this(cls) -> Self:
        """The process that runs this."""
        return cls.of(os.getpid())

    @classmethod
    def of(cls, pid: int) -> Self:
        """The process of this machine that has a number."""
        return cls(pid=pid, host=socket.gethostname(), started=_started(pid))

    def is_there(self) -> bool | None:
        """Tell whether it still runs; None if it is another machine's, or hidden from this user."""
        if self.host != socket.gethostname():
            return None
        now = None if self.started is None else _started(self.pid)
        if now is not None:
            return now == self.started
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            # Where the system hides others' processes, only that there is one is seen.
            return True if self.started is None else None
        # One whose beginning was seen, and cannot be now, has ended: its parent has not asked how.
        return self.started is None


def _started(pid: int) -> str | None:
    """The boot and the tick of it at which a process began; None for one that has ended."""
    with suppress(OSError, IndexError):
        # The command's name, in parentheses, may hold anything.
        _, _, rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
        fields = rest.split()
        if fields[_STATE] not in "ZX":
            return f"{_BOOT.read_text().strip()}:{fields[_START]}"
    return None
