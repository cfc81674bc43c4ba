"""Where a table is on the disk, and what its URI says of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from vecmigrate.connector import Metric, StoreURI, UsageError

SUFFIX = ".lance"
OPTIONS = ("id", "vector", "text", "metric", "index")
_NAME = re.compile(r"\w[\w.-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Place:
    """``lancedb:DATABASE/TABLE``, taken apart.

    Attributes
    ----------
    database
        The folder that holds the tables.
    name
        The table's.
    """

    uri: StoreURI
    database: Path
    name: str

    @property
    def table(self) -> Path:
        """The folder that LanceDB knows the table by."""
        return self.database / f"{self.name}{SUFFIX}"

    @property
    def staging(self) -> Path:
        """Where the table is made: a folder that LanceDB does not list, on the same disk."""
        return self.database / f".vecmigrate-{self.name}"

    def option(self, name: str) -> str | None:
        """Return an option's value, None where it is not given or empty."""
        return self.uri.options.get(name) or None

    def metric(self) -> Metric | None:
        """Return the metric that the URI asks for."""
        given = self.option("metric")
        if given is None:
            return None
        if given not in (Metric.COSINE, Metric.DOT, Metric.EUCLID):
            raise UsageError(
                f"{self.uri}: {given!r} is no metric of LanceDB",
                remedy="Write metric=cosine, metric=dot or metric=euclid.",
            )
        return Metric(given)


def place_of(uri: StoreURI) -> Place:
    """Take ``lancedb:DATABASE/TABLE?id=&vector=&text=&metric=&index=`` apart.

    Raises
    ------
    UsageError
        Where it is not one of this disk's, names no table, or has an option that is not known.
    """
    if uri.transport or "://" in uri.location or uri.location.startswith("//"):
        raise UsageError(
            f"{uri} is not on this disk", remedy="Write lancedb:DATABASE/TABLE, both folders here."
        )
    uri.check_options(OPTIONS)
    path = Path(uri.location)
    name = path.name.removesuffix(SUFFIX)
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{uri} names no table",
            remedy="Write lancedb:DATABASE/TABLE, the name in letters, digits and . _ - only.",
        )
    return Place(uri, path.parent, name)
