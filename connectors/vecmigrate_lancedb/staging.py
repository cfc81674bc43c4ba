"""The folder that a table is made in, until it is whole."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from vecmigrate.connector import MismatchError, TargetExistsError, TargetSpec, sync_path
from vecmigrate_lancedb.engine import open_table, writing
from vecmigrate_lancedb.place import SUFFIX, Place

_RUN = "run"


class Staging:
    """A database of its own beside the tables, with the one table and the name of its run."""

    def __init__(self, place: Place) -> None:
        self.path = place.staging
        self.name = place.name
        self._place = place
        self._synced: set[Path] = set()

    @property
    def table(self) -> Path:
        return self.path / f"{self.name}{SUFFIX}"

    def begin(self, spec: TargetSpec, *, restart: bool) -> None:
        """Make the folder; what another run left there stays, unless ``restart``.

        Raises
        ------
        TargetExistsError
            Where the table is there, or another run's unfinished one.
        """
        if self._place.table.exists():
            raise TargetExistsError(
                f"{self._place.uri} exists", remedy="Name another target, or drop the table first."
            )
        with writing(self._place.uri):
            if self.path.exists():
                left = self._run()
                # No name: it was killed before it wrote a point.
                if not (restart or left == "" or (spec.provenance and left == _name(spec))):
                    raise TargetExistsError(
                        f"{self._place.uri} is there, unfinished, and of another run",
                        remedy="Continue that run, or throw it away with --restart.",
                    )
                shutil.rmtree(self.path)
            self.path.mkdir(parents=True)
            (self.path / _RUN).write_text(_name(spec))
            self.sync()

    def resume(self, spec: TargetSpec) -> None:
        """Find the folder again.

        Raises
        ------
        TargetExistsError
            Where the table is there; an empty folder of its run is removed. Or another run's.
        MismatchError
            Where there is nothing.
        """
        there = self.path.is_dir()
        mine = there and self._run() == _name(spec)
        if self._place.table.exists():
            if mine:
                self.remove()
            raise TargetExistsError(
                f"{self._place.uri} exists, finished", remedy="Name another target."
            )
        if not there:
            raise MismatchError(
                f"nothing is left of {self._place.uri}", remedy="Start over with --restart."
            )
        if not mine:
            raise TargetExistsError(
                f"{self._place.uri} is there, unfinished, and of another run",
                remedy="Continue that run, or throw it away with --restart.",
            )

    def open_table(self) -> Any | None:
        """Open the table, None where it is not made yet."""
        return open_table(self.path, self.name) if self.table.is_dir() else None

    def sync(self) -> None:
        """Bring to the disk all that is not there yet.

        LanceDB never changes a file that it has made, but for a hint which it can do without.
        """
        with writing(self._place.uri):
            for folder, _, files in os.walk(self.path):
                new = [
                    Path(folder, name) for name in files if Path(folder, name) not in self._synced
                ]
                for file in new:
                    sync_path(file)
                if new:
                    sync_path(Path(folder))
                self._synced.update(new)

    def publish(self) -> None:
        """Give the table its name, in one step, and remove the folder.

        Raises
        ------
        TargetExistsError
            Where a table has got the name meanwhile.
        """
        self.sync()
        with writing(self._place.uri):
            try:
                self.table.rename(self._place.table)
            except OSError as error:
                if self._place.table.exists():
                    raise TargetExistsError(
                        f"{self._place.uri} was made by another meanwhile",
                        remedy="Name another target.",
                    ) from error
                raise
            sync_path(self._place.database)
        self.remove()

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def _run(self) -> str:
        try:
            return (self.path / _RUN).read_text()
        except FileNotFoundError:
            return ""


def _name(spec: TargetSpec) -> str:
    return spec.provenance.run() if spec.provenance else "unnamed"
