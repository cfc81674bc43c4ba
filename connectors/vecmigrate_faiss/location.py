"""Where an index file and the files that belong to it are."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vecmigrate.connector import StoreURI, UsageError

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
            Where they are not, or the scheme names a transport.
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
    def link_text(self) -> str:
        """What the index's name holds where cutovers move it."""
        return f"{self.generations.name}/{CURRENT}/{self.index.name}"

    @property
    def is_switched(self) -> bool:
        """True where the index's name is one that cutovers move."""
        return _link_of(self.index) == self.link_text

    def resolved(self) -> Location:
        """Follow a name that cutovers move, once, so that all files are of one generation."""
        number = _link_of(self.generations / CURRENT) if self.is_switched else None
        return self if number is None else Location(self.generations / number / self.index.name)

    @property
    def staging(self) -> Path:
        """The directory in which a sink collects what it is given."""
        return self._beside(f".{self.index.name}.vecmigrate-staging")

    @property
    def update(self) -> Path:
        """The directory in which changes of a finished index are made ready."""
        return self._beside(f".{self.index.name}.vecmigrate-update")

    def sidecar_candidates(self) -> list[Path]:
        """Where a user's sidecar is looked for."""
        stems = dict.fromkeys((self.index.stem, self.index.name))
        return [self._beside(stem + end) for stem in stems for end in (".jsonl", ".parquet")]

    def files(self) -> list[Path]:
        """The index and all that may belong to it, there or not."""
        return [self.index, self.companion, *self.sidecar_candidates()]

    def _beside(self, name: str) -> Path:
        return self.index.with_name(name)


def _link_of(path: Path) -> str | None:
    try:
        return os.readlink(path)  # noqa: PTH115 - the text as it is
    except OSError:
        return None
