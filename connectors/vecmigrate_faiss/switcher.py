"""Leads readers of an index's name to another index file."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from vecmigrate.connector import (
    InputError,
    MismatchError,
    StoreURI,
    Switcher,
    UsageError,
    WriteError,
    held_beside,
    sync_path,
    told_as,
)
from vecmigrate_faiss.companion import read_companion
from vecmigrate_faiss.generations import Generations, canonical, followed
from vecmigrate_faiss.location import CURRENT, Location
from vecmigrate_faiss.source import FaissSource


class FaissSwitcher(Switcher):
    """Moves symbolic links; see :mod:`vecmigrate_faiss.generations` for how."""

    def current(self, name: StoreURI) -> str | None:
        location = Location(Path(name.location))
        if not os.path.lexists(location.resolved().index):
            return None
        found = canonical(followed(location))
        _, question, options = str(name).partition("?")
        return replace(name, location=str(found.index)).canonical() + question + options

    def check(self, name: StoreURI, target: StoreURI) -> None:
        location, collection = Location.parse(name, ()), _collection(target)
        if not location.index.parent.is_dir():
            raise UsageError(
                f"{name}: there is no directory {location.index.parent}",
                remedy="Create it first.",
            )
        if location.index.is_dir():
            raise MismatchError(
                f"{location.index} is a directory", remedy="Name the file that readers open."
            )
        if canonical(location) == canonical(collection):
            raise UsageError(
                f"{name} and {target} are the same file",
                remedy="Name the new index that readers are to get.",
            )
        blocking = Generations(location).in_the_way()
        if blocking is not None:
            raise MismatchError(
                f"{blocking} is a file where a cutover keeps a link, so that it would be lost",
                remedy="Move it away.",
            )
        with FaissSource(target, collection) as source:
            source.describe()

    def keep(self, name: StoreURI) -> str | None:
        location = Location.parse(name, ())
        generations = Generations(location)
        if os.path.lexists(location.index) and not location.is_switched:
            with _writing(location.index), generations.locked():
                generations.adopt()
        return self.current(name)

    def switch(self, name: StoreURI, target: StoreURI) -> None:
        self.check(name, target)
        location, collection = Location.parse(name, ()), _collection(target)
        generations = Generations(location)
        with _writing(location.index), generations.locked():
            generations.adopt()
            number = generations.generation_of(collection)
            if location.is_switched:
                # Names that only the new generation has lead nowhere until it is the current one.
                generations.link_names(number)
                generations.lead_to(number)
                generations.unlink_names()
            else:
                generations.lead_to(number)
                generations.link_names(number)

    def belongings(self, collection: StoreURI) -> list[str]:
        return [str(path) for path in self._own_files(Location.parse(collection, ()))]

    def drop(self, collection: StoreURI) -> None:
        location = Location.parse(collection, ())
        files = self._own_files(location)
        folder = location.index.parent
        if folder.parent.suffix == ".generations" and _is_current(folder):
            raise MismatchError(
                f"{folder} is what readers of {folder.parent.with_suffix('')} get",
                remedy="Cut them over to another collection first.",
            )
        with _writing(location.index):
            with held_beside(location.index, collection):
                for path in files:
                    path.unlink()
            sync_path(folder)
            if folder.parent.suffix == ".generations" and not any(folder.iterdir()):
                folder.rmdir()

    def _own_files(self, location: Location) -> list[Path]:
        """Return the index and what vecmigrate wrote beside it; a user's texts are not ours."""
        if location.is_switched:
            raise MismatchError(
                f"{location.index} is a name that readers open",
                remedy="Name the collection itself.",
            )
        if not os.path.lexists(location.index):
            raise InputError(f"{location.index} does not exist", remedy="Check the path.")
        files = [location.index]
        companion = read_companion(location)
        if companion is not None:
            files.append(location.companion)
            if companion.sidecar and location.sidecar.exists():
                files.append(location.sidecar)
        return files


def _collection(target: StoreURI) -> Location:
    """Return where a target's files are; a name that is itself moved is followed."""
    return canonical(followed(Location.parse(target, ())))


def _is_current(folder: Path) -> bool:
    try:
        return folder.samefile(folder.parent / CURRENT)
    except OSError:
        return False


def _writing(path: Path) -> AbstractContextManager[None]:
    return told_as(
        WriteError,
        f"the links or files of {path} cannot be changed",
        "Check the directory's permissions, free space, and that its file system has symbolic and "
        "hard links; then run this again.",
        (OSError,),
    )
