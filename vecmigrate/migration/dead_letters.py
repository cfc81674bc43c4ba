"""Points that a store refuses for what they hold: found by halving, and set aside."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from vecmigrate.connector.sink import Sink
from vecmigrate.errors import InputError, RefusedError, WriteError
from vecmigrate.io.atomic import Rewriting
from vecmigrate.points.batch import PointId, VectorBatch
from vecmigrate.points.canonical import payload_json

MAX_DEAD_LETTERS = 100


class OnBadPoint(StrEnum):
    """What to do with a point that the store refuses."""

    FAIL = "fail"
    QUARANTINE = "quarantine"


class DeadLetters:
    """A file of refused points, one JSON object a line: run, id, reason, payload, vector.

    Several runs may share a file; each knows its own by :meth:`Provenance.run`.

    Attributes
    ----------
    ids
        Of this run's letters, in the order written.

    Parameters
    ----------
    run
        Whose letters to read and write.

    Raises
    ------
    InputError
        If the file is there and holds something else.
    """

    def __init__(self, path: Path, run: str) -> None:
        self.path = path
        self._run = run
        self.ids: list[PointId] = []
        try:
            content = path.read_bytes() if path.exists() else b""
            # A kill in the middle of a line leaves one that was never answered for.
            self._whole = content.rfind(b"\n") + 1
            for line in content[: self._whole].splitlines():
                letter = json.loads(line)
                if letter["run"] == run:
                    self.ids.append(letter["id"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _no_letters(path) from error

    def add(self, point: VectorBatch, reason: str) -> None:
        """Append a batch of one point; it is on the disk when this returns.

        Raises
        ------
        WriteError
        MismatchError
            If the payload is not JSON.
        """
        point_id: Any = point.ids.tolist()[0]
        letter = {
            "run": self._run,
            "id": point_id,
            "reason": reason,
            "payload": None if point.payloads is None else point.payloads[0],
            "vector": (point.vectors if point.counts is not None else point.vectors[0]).tolist(),
        }
        line = payload_json(letter, point_id).encode() + b"\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.truncate(self._whole)
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
                self._whole += len(line)
        except OSError as error:
            raise WriteError(
                f"{self.path} cannot be written: {error.strerror or error}",
                remedy="Name a writable file with --dead-letters; the same command continues.",
            ) from error
        self.ids.append(point_id)

    def outside(self, batch: VectorBatch) -> VectorBatch:
        """Return the batch without the points that have a letter."""
        if not self.ids:
            return batch
        dead = set(self.ids)
        return batch.take(np.array([i not in dead for i in batch.ids.tolist()], bool))


def without_letters(path: Path, gone: Callable[[str, PointId], bool]) -> Rewriting | None:
    """Return a file of dead letters without some of them; None if it has none of these.

    Parameters
    ----------
    gone
        Tells of a letter's run and id whether the letter is to go.

    Raises
    ------
    InputError
        If it is no such file.
    """
    kept, removed = [], set()
    try:
        for line in path.read_bytes().splitlines(keepends=True):
            # A kill in the middle of a line leaves one that is of nobody.
            if not line.endswith(b"\n"):
                continue
            letter = json.loads(line)
            if gone(letter["run"], letter["id"]):
                removed.add(letter["id"])
            else:
                kept.append(line)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _no_letters(path) from error
    if not removed:
        return None
    return Rewriting(frozenset(removed), lambda to: to.write_bytes(b"".join(kept)))


def _no_letters(path: Path) -> InputError:
    return InputError(
        f"{path} cannot be read as a file of dead letters",
        remedy="Name another one with --dead-letters.",
    )


class PointWriter:
    """Writes batches to a sink; what the store refuses is a dead letter, or an error with its id.

    A refused batch is halved until each point at fault stands alone: about two log2(n) requests
    for one point among n.

    Parameters
    ----------
    letters
        Where refused points go; those that are there are not written again.
    policy
        ``fail`` has the first one end the run.
    most
        Letters beyond which the store, and not a point, is thought to be at fault.

    Attributes
    ----------
    others
        Ids of the batch that was written last which others had written, and which were left.
    """

    def __init__(
        self, sink: Sink, letters: DeadLetters, policy: OnBadPoint, most: int = MAX_DEAD_LETTERS
    ) -> None:
        self._sink = sink
        self._letters = letters
        self._policy = policy
        self._most = most
        self.others: list[PointId] = []

    @property
    def fails(self) -> bool:
        """True if no point is set aside: a refused one is an error, and none was before."""
        return self._policy is OnBadPoint.FAIL and not self._letters.ids

    def write(self, batch: VectorBatch) -> VectorBatch:
        """Write a batch and return the points of it that were taken.

        Raises
        ------
        RefusedError
            If a point is refused and the policy is ``fail``, or too many are.
        WriteError, MismatchError, UnreachableError
            From the sink, and if the letter cannot be written.
        """
        letters, self.others = self._letters, []
        wanted = letters.outside(batch)
        for point, error in self._refused(wanted):
            if self._policy is OnBadPoint.FAIL:
                raise RefusedError(
                    f"point {point.ids.tolist()[0]!r} was refused: {error.message}",
                    remedy="Mend it in the source, or set such points aside with --on-bad-point "
                    "quarantine; the same command continues.",
                ) from error
            if len(letters.ids) >= self._most:
                raise RefusedError(
                    f"more than {self._most:,} points were refused, the last one, "
                    f"{point.ids.tolist()[0]!r}, since {error.message}",
                    remedy=f"See {letters.path}; if these are what they should be, raise "
                    "--max-dead-letters.",
                ) from error
            letters.add(point, error.message)
        return letters.outside(wanted)

    def _refused(self, batch: VectorBatch) -> Iterator[tuple[VectorBatch, RefusedError]]:
        """Write what is taken; yield the points that are not."""
        if not len(batch):
            return
        try:
            found = self._sink.write(batch)
            self.others += [] if found is None else found.tolist()
            return
        except RefusedError as error:
            if len(batch) == 1:
                yield batch, error
                return
        half = len(batch) // 2
        for rows in (np.arange(half), np.arange(half, len(batch))):
            yield from self._refused(batch.take(rows))


def without(letters: DeadLetters | None, batches: Iterator[VectorBatch]) -> Iterator[VectorBatch]:
    """Yield batches without the points that have a letter."""
    for batch in batches:
        left = batch if letters is None else letters.outside(batch)
        if len(left):
            yield left
