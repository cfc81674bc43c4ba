"""Where an index file and the files that belong to it are."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vecmigrate.connector import InputError, StoreURI, UsageError

_SIDECAR_ENDS = (".jsonl", ".parquet", ".sqlite", ".db", ".pkl")
# LlamaIndex names the index, which FAISS writes, as its own stores are named.
VECTOR_STORE, DOCSTORE, INDEX_STORE = "vector_store.json", "docstore.json", "index_store.json"
_IN_A_FOLDER = ("*.faiss", f"*{VECTOR_STORE}")

CURRENT = "current"
"""The link in the directory of generations that leads to the one that readers get."""


@dataclass(frozen=True, slots=True)
class Location:
    """An index file's path, and the names derived from it."""

    index: Path

    @classmethod
    def parse(cls, uri: StoreURI, options: Iterable[str]) -> Location:
        """Take the path from a URI whose options must be among ``options`` and not empty.

        Raises
        ------
        UsageError
            If they are not, or the scheme names a transport.
        """
        uri.check_options(options)
        if uri.transport:
            raise UsageError(
                f"{uri}: FAISS has no transport {uri.transport!r}", remedy="Write faiss:PATH."
            )
        for name, value in uri.options.items():
            if not value:
                raise UsageError(
                    f"{uri}: the option {name!r} is empty",
                    remedy="Give it a value or leave it out.",
                )
        return cls(Path(uri.location))

    def in_folder(self) -> Location:
        """Find the index if the path is a folder that LangChain or LlamaIndex saved.

        Raises
        ------
        InputError
            If there is none in it, or several.
        """
        if not self.index.is_dir():
            return self
        named = [path for name in _IN_A_FOLDER for path in sorted(self.index.glob(name))]
        # LlamaIndex's own vector stores, which have such names too, are JSON.
        found = [path for path in named if _first_byte(path) != b"{"]
        if len(found) != 1:
            held = "several FAISS indexes" if found else "no FAISS index"
            raise InputError(
                f"{self.index} is a directory with {held} in it",
                remedy=f"Name the file, {', '.join(map(str, found)) or 'as faiss:FOLDER/FILE'}.",
            )
        return Location(found[0])

    @property
    def companion(self) -> Path:
        """What vecmigrate notes of an index that it wrote."""
        return self._beside(f"{self.index.name}.vecmigrate.json")

    @property
    def sidecar(self) -> Path:
        """Where a sink writes payloads."""
        return self._beside(f"{self.index.name}.jsonl")

    @property
    def generations(self) -> Path:
        """The directory of what readers of the index have had since its first cutover."""
        return self._beside(f"{self.index.name}.generations")

    @property
    def is_switched(self) -> bool:
        """True if the index's name is one that cutovers move."""
        return link_text(self.index) == f"{self.generations.name}/{CURRENT}/{self.index.name}"

    def resolved(self) -> Location:
        """Follow a name that cutovers move, once, so that all files are of one generation."""
        number = link_text(self.generations / CURRENT) if self.is_switched else None
        return self if number is None else Location(self.generations / number / self.index.name)

    @property
    def update(self) -> Path:
        """The directory in which changes of a finished index are made ready."""
        return self._beside(f".{self.index.name}.vecmigrate-update")

    def sidecar_candidates(self) -> list[Path]:
        """Where a user's sidecar is looked for."""
        if self.index.name.endswith(VECTOR_STORE):
            return [self._beside(DOCSTORE)]
        stems = dict.fromkeys((self.index.stem, self.index.name))
        return [self._beside(stem + end) for stem in stems for end in _SIDECAR_ENDS]

    def files(self) -> list[Path]:
        """The index and all that may belong to it, there or not."""
        own = [self.index, self.companion, *self.sidecar_candidates()]
        return [*own, self._beside(INDEX_STORE)] if self._beside(DOCSTORE) in own else own

    def _beside(self, name: str) -> Path:
        return self.index.with_name(name)


def _first_byte(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(1)
    except OSError:
        return b""


def link_text(path: Path) -> str | None:
    """Return the text of a link, or None if ``path`` is none."""
    try:
        return os.readlink(path)  # noqa: PTH115 - the text as it is
    except OSError:
        return None
