"""Generations of an index that readers open by one name.

Beside ``NAME`` lies ``NAME.generations/`` with a directory for each generation, ``1``, ``2`` and so
on, and a link ``current`` to one of them. A generation holds the index, its companion and its
sidecar under the names that readers know: links to a collection elsewhere, or the files
themselves if they were readers' own before the first cutover. The names that readers open are
links through ``current``, so that one renaming moves all of them at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vecmigrate.connector import Lease, LeaseFile, sync_path
from vecmigrate_faiss.location import CURRENT, Location, link_text

_UNFINISHED = ".new"


class Generations:
    """The generations behind one name.

    Parameters
    ----------
    name
        Where readers open the index.
    """

    def __init__(self, name: Location) -> None:
        self._name = name
        self._directory = name.generations

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other cutovers of this name out.

        Raises
        ------
        LockedError
            If one is at work.
        """
        self._directory.mkdir(exist_ok=True)
        with Lease(LeaseFile(self._directory / "lease"), self._name.index).held():
            yield

    def adopt(self) -> None:
        """Turn a name that holds files into one that leads to a generation with these files.

        Each step leaves a reader with the same files, whether by name or through the links, so
        that this may be cut short anywhere and done again: the files get second names (hard
        links) in a generation, ``current`` is led there, and one name after the other is replaced
        by its link.
        """
        if self._name.is_switched or not os.path.lexists(self._name.index):
            return
        number = self._generation_of_files() or self._make(self._files())
        self.lead_to(number)
        self.link_names(number)

    def lead_to(self, number: str) -> None:
        """Let readers have generation ``number``, in one step."""
        _replace_link(self._directory / CURRENT, number)
        sync_path(self._directory)

    def generation_of(self, collection: Location) -> str:
        """Return the number of the generation that leads to a collection, made if need be."""
        if collection.index.parent.parent == _real(self._directory):
            return collection.index.parent.name
        found = {
            self._name.index.name + ours.name.removeprefix(collection.index.name)
            if ours.name.startswith(collection.index.name)
            else self._name.index.stem + ours.suffix: ours
            for ours in collection.files()
            if ours.exists()
        }
        for number in self._numbers():
            if _links(self._directory / number) == {
                name: _link_text(ours, self._directory / number) for name, ours in found.items()
            }:
                return number
        return self._make(found, links=True)

    def link_names(self, number: str) -> None:
        """Make the names of a generation's files links through ``current``, the index's last."""
        names = [path.name for path in _content(self._directory / number)]
        for name in sorted(names, key=lambda name: name == self._name.index.name):
            path = self._name.index.with_name(name)
            if link_text(path) != self._text_of(name):
                _replace_link(path, self._text_of(name))
        # Which of the names a power cut undoes does not matter: each leads to the same either way.
        sync_path(self._name.index.parent)

    def unlink_names(self) -> None:
        """Remove names that lead nowhere, since only another generation has such a file."""
        for path in self._name.files():
            if link_text(path) == self._text_of(path.name) and not path.exists():
                path.unlink()

    def in_the_way(self) -> Path | None:
        """Return a file that was put where a link belongs, if there is one."""
        if not self._name.is_switched:
            return None
        for path in self._name.files():
            if path.exists() and not path.is_symlink():
                return path
        return None

    def collection(self, number: str) -> Location:
        """Return where a generation's collection is: elsewhere where its links lead, or here."""
        folder = _real(self._directory / number)
        here = Location(folder / self._name.index.name)
        links = _links(folder)
        text = links.get(self._name.index.name)
        if text is None:
            return here
        there = canonical(Location(folder / text))
        belong = set(there.files())
        belongs = (
            link is not None and canonical(Location(folder / link)).index in belong
            for link in links.values()
        )
        return there if all(belongs) else here

    def _files(self) -> dict[str, Path]:
        """Return the readers' files by name, those behind links through ``current`` included."""
        behind = self._directory / (link_text(self._directory / CURRENT) or CURRENT)
        found: dict[str, Path] = {}
        for path in self._name.files():
            if link_text(path) == self._text_of(path.name):
                path = behind / path.name
            if path.exists():
                found[path.name] = path
        return found

    def _generation_of_files(self) -> str | None:
        """Return the generation that has the readers' very files, which an earlier try made."""
        files = self._files()
        for number in self._numbers():
            made = {path.name: path for path in _content(self._directory / number)}
            if made.keys() == files.keys() and all(
                path.exists() and path.samefile(files[name]) for name, path in made.items()
            ):
                return number
        return None

    def _text_of(self, name: str) -> str:
        return f"{self._directory.name}/{CURRENT}/{name}"

    def _numbers(self) -> list[str]:
        found = [p.name for p in self._directory.iterdir() if p.name.isdecimal()]
        return sorted(found, key=int)

    def _make(self, files: dict[str, Path], *, links: bool = False) -> str:
        """Make a generation of files by name, whole or not at all."""
        unfinished = self._directory / _UNFINISHED
        if unfinished.exists():
            for path in unfinished.iterdir():
                path.unlink()
        else:
            unfinished.mkdir()
        number = str(1 + max(map(int, self._numbers()), default=0))
        for name, path in files.items():
            if links:
                (unfinished / name).symlink_to(_link_text(path, self._directory / number))
            elif (text := link_text(path)) is not None:
                (unfinished / name).symlink_to(_real(path.parent) / text)
            else:
                os.link(path, unfinished / name)
        sync_path(unfinished)
        unfinished.rename(self._directory / number)
        sync_path(self._directory)
        return number


def followed(location: Location) -> Location:
    """Follow a name that cutovers move, once, to the collection that its readers get."""
    resolved = location.resolved()
    if resolved == location:
        return location
    return Generations(location).collection(resolved.index.parent.name)


def canonical(location: Location) -> Location:
    """Return a location by the one path that all ways to its directory share."""
    return Location(_real(location.index.parent) / location.index.name)


def _links(folder: Path) -> dict[str, str | None]:
    """Return the text of each link in a generation, None if a name is a file itself."""
    return {path.name: link_text(path) for path in _content(folder)}


def _content(folder: Path) -> list[Path]:
    """Return a generation's files, without the lease of a run that is at work on it."""
    return [path for path in folder.iterdir() if not path.name.endswith(LeaseFile.SUFFIX)]


def _link_text(path: Path, folder: Path) -> str:
    """Return a link from ``folder``: relative to a near collection, so that both can be moved."""
    path, folder = _real(path.parent) / path.name, _real(folder)
    near = path.is_relative_to(folder.parent.parent)
    return os.path.relpath(path, folder) if near else str(path)


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _replace_link(path: Path, text: str) -> None:
    """Make ``path`` a link with this text in one step, whatever was there."""
    fresh = path.with_name(f".{path.name}.switching")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(text)
    fresh.replace(path)
