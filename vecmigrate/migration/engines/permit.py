"""Permits: what a task needs to work, and what the driver takes back to stop it.

``ray.cancel`` is not safe. With ``force`` or without, Ray (2.60) aborts the process that calls it
if the task ends at that instant: Ray takes the task as failed, and then its result arrives ("Tried
to complete task that was not pending").
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from vecmigrate.errors import TerminatedError
from vecmigrate.io.atomic import unwritable
from vecmigrate.runtime.waiting import unwanted_when

T = TypeVar("T")

PREFIX = ".permit-"
"""What the name of a permit's file begins with."""


class WithdrawnError(Exception):
    """The driver has taken back the permit; a task ends on it and does not let it out."""


@dataclass(frozen=True)
class Permit:
    """A file in the folder of parts, which all machines see.

    The task renames the file when it begins, and the driver removes it. One of both succeeds, on a
    network's file system too, so that the driver knows which tasks it has to wait for. A task that
    begins later, as one that waits for a processor of a busy cluster, does nothing.

    Attributes
    ----------
    issued, begun
        Its file before and after the task has begun.
    """

    issued: Path
    begun: Path

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Tell that the task has begun; entered again by another worker if its worker died.

        Raises
        ------
        WithdrawnError
            At the beginning, or from within as soon as the task waits for a server.
        """
        with suppress(OSError):
            self.issued.rename(self.begun)
        self.check()
        with unwanted_when(self.is_withdrawn):
            try:
                yield
            except TerminatedError as error:
                raise WithdrawnError from error

    def check(self) -> None:
        """Raise :class:`WithdrawnError` if the driver has taken it back, or may have."""
        try:
            # Opened, since a network's file system may answer from memory whether it exists.
            self.begun.open("rb").close()
        except OSError as error:
            raise WithdrawnError from error

    def is_withdrawn(self) -> bool:
        """Tell whether the driver has taken it back, or may have."""
        try:
            self.check()
        except WithdrawnError:
            return True
        return False

    def each(self, items: Iterable[T]) -> Iterator[T]:
        """Yield the items; raise :class:`WithdrawnError` at the first after it was taken back."""
        for item in items:
            self.check()
            yield item

    def withdraw(self) -> bool:
        """Take it back; True if the task had begun and may still be at work."""
        try:
            self.issued.unlink()
        except FileNotFoundError:
            # If it cannot be removed, the task does all that it has to do, and is waited for.
            with suppress(OSError):
                self.begun.unlink()
            return True
        except OSError:
            return True
        return False


def issue_permit(folder: Path) -> Permit:
    """Return a permit for one task.

    Raises
    ------
    WriteError
    """
    issued = folder / f"{PREFIX}{uuid.uuid4().hex}"
    try:
        issued.touch()
    except OSError as error:
        raise unwritable(issued, error) from error
    return Permit(issued, issued.with_suffix(".begun"))
