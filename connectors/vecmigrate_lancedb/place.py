"""Where a table is on the disk, and what its URI says of it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from vecmigrate.connector import LocalPlace, Metric, StoreURI, UsageError

SUFFIX = ".lance"
OPTIONS = ("id", "vector", "text", "metric", "index")
_NAME = re.compile(r"\w[\w.-]*", re.ASCII)


class Place(LocalPlace):
    """``lancedb:DATABASE/TABLE?id=&vector=&text=&metric=&index=``, taken apart.

    ``path`` is the folder that LanceDB knows the table by.
    """

    metrics = (Metric.COSINE, Metric.DOT, Metric.EUCLID)

    @classmethod
    def parse(cls, uri: StoreURI, options: Iterable[str] = OPTIONS) -> Place:
        named = LocalPlace.parse(uri, options).path
        name = named.name.removesuffix(SUFFIX)
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"{uri} names no table",
                remedy="Write lancedb:DATABASE/TABLE, the name in letters, digits and . _ - only.",
            )
        return cls(uri, named.with_name(name + SUFFIX))

    @property
    def database(self) -> Path:
        """The folder that holds the tables."""
        return self.path.parent

    @property
    def name(self) -> str:
        """The table's."""
        return self.path.name.removesuffix(SUFFIX)

    @property
    def staging(self) -> Path:
        """Where the table is made: a folder that LanceDB does not list, on the same disk."""
        return self.database / f".vecmigrate-{self.name}"
