"""Qdrant's own engine inside this process: its failures told as ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import RLock
from typing import TypeVar

import qdrant_edge

from vecmigrate.connector import InputError, RefusedError, VecmigrateError, WriteError
from vecmigrate_qdrant.access.base import Refusal

T = TypeVar("T")

_CONTENT = (ValueError, TypeError, OverflowError)
"""What a point raises that the engine cannot hold."""

_BAD_INPUT = ("Vector dimension error", "Not existing vector name", "Wrong input", "Validation")


class Shard:
    """An open shard, asked by one thread at a time: its flush fails beside another call."""

    def __init__(self, engine: qdrant_edge.EdgeShard) -> None:
        self._engine = engine
        self._lock = RLock()

    def ask(self, request: Callable[[qdrant_edge.EdgeShard], T]) -> T:
        """Return what ``request`` returns for the engine's shard."""
        with self._lock:
            return request(self._engine)

    def close(self) -> None:
        """Bring everything to the disk and release the shard."""
        with self._lock:
            self._engine.close()


@contextmanager
def failures(where: str, refusal: Refusal) -> Iterator[None]:
    """Raise what the engine raises as one of ours.

    Raises
    ------
    RefusedError
        If ``refusal`` is :class:`WriteError` and points are refused for what they hold.
    InputError, WriteError
        If anything else fails; ``refusal`` says which.
    """
    try:
        yield
    except VecmigrateError:
        raise
    except BaseException as error:
        panicked = type(error).__module__ == "pyo3_runtime"
        if not (isinstance(error, Exception) or panicked):
            raise
        said = " ".join(str(error).split())[:300]
        if is_in_use(error):
            raise in_use(where, refusal) from error
        content = isinstance(error, _CONTENT) or said.startswith(_BAD_INPUT)
        kind = RefusedError if content and refusal is WriteError else refusal
        raise kind(f"{where} refused a request ({said})", remedy=_remedy(refusal)) from error


def is_in_use(error: BaseException) -> bool:
    """Tell whether the engine says that another process has the shard's log."""
    return "WouldBlock" in str(error)


def in_use(path: object, refusal: Refusal) -> VecmigrateError:
    """Return the error of a directory that another process has open."""
    return refusal(
        f"the Qdrant collection {path} is in use by another process",
        remedy="It serves one process at a time: close what has it open (an application, a "
        "notebook, another vecmigrate) and run this again.",
    )


def _remedy(refusal: Refusal) -> str:
    if refusal is InputError:
        return "Check the directory's permissions and that its files are whole."
    return "Check the points, the disk's free space and the directory's permissions."
