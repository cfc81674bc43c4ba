"""Where files are on the disk, and what a URI says of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vecmigrate.connector import InputError, Metric, StoreURI, UsageError, name_some


@dataclass(frozen=True, slots=True)
class Place:
    """A URI of this package, taken apart."""

    uri: StoreURI
    path: Path

    @property
    def staging(self) -> Path:
        """The folder in which the target is made ready: beside it, so on the same disk."""
        return self.path.with_name(f".{self.path.name}.vecmigrate-staging")

    def refuse_unfinished(self) -> None:
        """Raise :class:`InputError` where a migration to here is not over."""
        if not self.path.exists() and self.staging.is_dir():
            raise InputError(
                f"{self.uri} is unfinished", remedy="Run its migration again, which continues it."
            )

    def option(self, name: str) -> str | None:
        """Return an option's value, None where it is not given or empty."""
        return self.uri.options.get(name) or None

    def metric(self) -> Metric | None:
        """Return the metric that the URI asks for.

        Raises
        ------
        UsageError
            Where there is none of that name.
        """
        given = self.option("metric")
        if given is None:
            return None
        if given not in set(Metric):
            raise UsageError(
                f"{self.uri}: {given!r} is no metric", remedy=f"There are {name_some(Metric)}."
            )
        return Metric(given)

    def check_metric(self, metric: Metric) -> None:
        """Raise :class:`UsageError` where the URI of a target asks for another metric."""
        if self.metric() not in (None, metric):
            raise UsageError(
                f"{self.uri}: the collection's metric is {metric}",
                remedy="Take metric= out: a migration does not change it.",
            )

    def text_field(self, noted: str | None, fields: Iterable[str]) -> str | None:
        """Return the field that holds the text, as the URI says, else as noted.

        Raises
        ------
        InputError
            Where the URI names none of ``fields``.
        """
        asked, known = self.option("text"), list(fields)
        if asked is not None and asked not in known:
            raise InputError(
                f"{self.uri} has no payload field {asked!r}",
                remedy=f"There are: {name_some(known) or 'none'}.",
            )
        return asked or noted


def place_of(uri: StoreURI, options: Iterable[str]) -> Place:
    """Take a URI apart whose options must be among ``options``.

    Raises
    ------
    UsageError
        Where they are not, or it is not one of this disk's.
    """
    if uri.transport or "://" in uri.location or uri.location.startswith("//"):
        raise UsageError(
            f"{uri} is not on this disk", remedy=f"Write {uri.scheme}:PATH, a path on this disk."
        )
    uri.check_options(options)
    path = Path(uri.location)
    if path.name in ("", ".."):
        raise UsageError(f"{uri} names no file", remedy=f"Write {uri.scheme}:PATH.")
    return Place(uri, path)
