"""The folder that a target is made in, until it is whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vecmigrate.connector import (
    MismatchError,
    StoreURI,
    TargetExistsError,
    TargetSpec,
    UsageError,
    sync_path,
    take_lock,
)
from vecmigrate_files.place import Place, writing

_LOCK, _RUN, _PUBLISHING = "lock", "run", "publishing"
_OWN = (_LOCK, _RUN, _PUBLISHING)


class Staging:
    """A folder beside the target, with the name of its run; one process at a time has it.

    Parameters
    ----------
    beside
        Names of further files of the target, which get theirs before the target gets its own.
    """

    def __init__(self, place: Place, spec: TargetSpec, beside: Sequence[Path] = ()) -> None:
        self.path = place.staging
        self._place = place
        self._beside = list(beside)
        self._name = spec.provenance.run() if spec.provenance else ""
        self._lock: IO[bytes] | None = None

    def begin(self, *, restart: bool) -> None:
        """Make the folder; what another run left there stays, unless ``restart``.

        Raises
        ------
        TargetExistsError
            Where the target is there, or another run's unfinished one.
        UsageError
            Where the folder that it is to be in does not exist.
        """
        self._refuse([self._place.path])
        if not self._place.path.parent.is_dir():
            raise UsageError(
                f"{self._place.uri}: there is no folder {self._place.path.parent}",
                remedy="Create it first.",
            )
        with writing(self._place.uri):
            self.path.mkdir(exist_ok=True)
            self._take_lock()
            try:
                if not (restart or self._is_free()):
                    raise TargetExistsError(
                        f"{self._place.uri} is there, unfinished, and of another run",
                        remedy="Continue that run, or throw it away with --restart.",
                    )
                self._take_back()
                self.clear()
                (self.path / _RUN).write_text(self._name)
            except BaseException:
                self.suspend()
                raise
            try:
                self._refuse(self._beside)
            except BaseException:
                self.discard()
                raise

    def resume(self) -> None:
        """Find the folder again, with all that is in it.

        Raises
        ------
        TargetExistsError
            Where the target is there; what its run left beside it is removed. Or another run's.
        MismatchError
            Where there is nothing.
        """
        finished = os.path.lexists(self._place.path)
        if not self.path.is_dir():
            self._refuse([self._place.path])
            raise MismatchError(
                f"nothing is left of {self._place.uri}", remedy="Start over with --restart."
            )
        with writing(self._place.uri):
            self._take_lock()
            mine = self._run() == self._name or self._is_bare()
            if finished and mine:
                self.discard()
            if finished or not mine:
                self.suspend()
                self._refuse([self._place.path])
                raise TargetExistsError(
                    f"{self._place.uri} is there, unfinished, and of another run",
                    remedy="Continue that run, or throw it away with --restart.",
                )
            self._take_back()
            (self.path / _RUN).write_text(self._name)

    def clear(self) -> None:
        """Remove all but what tells whose the folder is."""
        for path in self.path.iterdir():
            if path.name not in _OWN:
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()

    def publish(self, made: Path, beside: Sequence[tuple[Path, Path]] = ()) -> None:
        """Give the target its name, in one step, and remove the folder.

        Parameters
        ----------
        made
            The target as it is in the folder, a file or a folder itself; all of it durable.
        beside
            Further files with the names that they get before.

        Raises
        ------
        TargetExistsError
            Where another has made one of them meanwhile.
        """
        parent = self._place.path.parent
        with writing(self._place.uri):
            self._refuse([self._place.path, *self._beside])
            (self.path / _PUBLISHING).touch()
            sync_path(self.path)
            given: list[Path] = []
            try:
                for staged, name in beside:
                    _give_name(staged, name)
                    given.append(name)
                sync_path(parent)
                _give_name(made, self._place.path)
            except (TargetExistsError, OSError):
                for name in given:
                    name.unlink()
                (self.path / _PUBLISHING).unlink()
                raise
            sync_path(parent)
        self.discard()

    def suspend(self) -> None:
        """Leave the folder for a later run; may be called again."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def discard(self) -> None:
        """Remove the folder; may be called again."""
        if self._lock is None:
            return
        with suppress(OSError):
            if not os.path.lexists(self._place.path):
                self._take_back()
            # Last what tells whose it is: a kill in between must not leave a stranger's folder.
            self.clear()
            (self.path / _PUBLISHING).unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)
        self.suspend()

    def _take_back(self) -> None:
        """Remove what a run that was cut short while publishing gave its name already."""
        if (self.path / _PUBLISHING).exists():
            for path in self._beside:
                path.unlink(missing_ok=True)
            (self.path / _PUBLISHING).unlink()

    def _is_free(self) -> bool:
        """True where the folder holds nothing, or what this run left there."""
        return self._is_bare() or (self._name != "" and self._run() == self._name)

    def _is_bare(self) -> bool:
        return {path.name for path in self.path.iterdir()} <= {_LOCK, _RUN}

    def _run(self) -> str | None:
        try:
            return (self.path / _RUN).read_text()
        except FileNotFoundError:
            return None

    def _refuse(self, paths: Sequence[Path]) -> None:
        for path in paths:
            if os.path.lexists(path):
                raise TargetExistsError(
                    f"{self._place.uri}: {path} exists",
                    remedy="Choose another target, or move it away.",
                )

    def _take_lock(self) -> None:
        taken = TargetExistsError(
            f"another run is writing to {self._place.uri}", remedy="Let it finish."
        )
        self._lock = take_lock(self.path / _LOCK, taken)


def _give_name(made: Path, name: Path) -> None:
    """Rename, replacing nothing."""
    try:
        if made.is_dir():
            made.rename(name)
            return
        try:
            os.link(made, name)
        except FileExistsError:
            raise
        except OSError:  # no second names on this disk
            made.rename(name)
    except OSError as error:
        if os.path.lexists(name):
            raise TargetExistsError(
                f"{name} was made by another meanwhile", remedy="Choose another target."
            ) from error
        raise


class Checkpoint(BaseModel):
    """What is to be kept of the staged rows.

    Attributes
    ----------
    parts
        Files that are whole.
    rows, size
        Rows, and bytes, of the spool of those that are in none yet; no bytes where there is none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    parts: int = Field(default=0, ge=0)
    rows: int = Field(default=0, ge=0)
    size: int = Field(default=0, ge=0)

    @classmethod
    def parse(cls, token: str, uri: StoreURI) -> Checkpoint:
        """Read a token back.

        Raises
        ------
        MismatchError
            Where it is none.
        """
        try:
            return cls.model_validate_json(token)
        except ValidationError as error:
            raise MismatchError(
                f"{token!r} is no checkpoint of {uri}", remedy="Start over with --restart."
            ) from error
