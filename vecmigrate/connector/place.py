"""Where a collection on this disk is, and what its URI says of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from vecmigrate.connector.marks import Mark
from vecmigrate.connector.staging import staging_folder
from vecmigrate.connector.uri import StoreURI
from vecmigrate.errors import InputError, MismatchError, UsageError
from vecmigrate.points.batch import Payload
from vecmigrate.points.collection import (
    CollectionDescription,
    Metric,
    detect_text_field,
    unfinished,
)
from vecmigrate.points.ids import name_some


@dataclass(frozen=True)
class LocalPlace:
    """A URI whose location is a path, taken apart; the base of a connector's own place.

    Attributes
    ----------
    metrics
        What the option ``metric`` may name.
    """

    uri: StoreURI
    path: Path

    metrics: ClassVar[tuple[Metric, ...]] = tuple(Metric)

    @classmethod
    def parse(cls, uri: StoreURI, options: Iterable[str]) -> Self:
        """Take a URI apart whose options must be among ``options``.

        Raises
        ------
        UsageError
            If they are not, or the URI is not one of this disk's.
        """
        if not uri.is_path:
            raise UsageError(
                f"{uri} is not on this disk",
                remedy=f"Write {uri.scheme}:PATH, a path on this disk.",
            )
        uri.check_options(options)
        path = Path(uri.location)
        if path.name in ("", ".."):
            raise UsageError(f"{uri} names no file", remedy=f"Write {uri.scheme}:PATH.")
        return cls(uri, path)

    @property
    def staging(self) -> Path:
        """Where :class:`Staging` makes the target."""
        return staging_folder(self.path)

    def refuse_unfinished(self) -> None:
        """Raise :class:`InputError` if a migration to here is not over."""
        if not self.path.exists() and self.staging.is_dir():
            raise unfinished(self.uri)

    def option(self, name: str) -> str | None:
        """Return an option's value, None if it is not given or empty."""
        return self.uri.options.get(name) or None

    def metric(self) -> Metric | None:
        """Return the metric that the URI asks for.

        Raises
        ------
        UsageError
            If there is none of that name among :attr:`metrics`.
        """
        given = self.option("metric")
        if given is not None and given not in self.metrics:
            raise UsageError(
                f"{self.uri}: {given!r} is no metric here",
                remedy=f"There are {name_some(self.metrics)}.",
            )
        return None if given is None else Metric(given)

    def check_metric(self, metric: Metric) -> None:
        """Refuse a target by a metric that the URI, or the store, does not have.

        Raises
        ------
        UsageError
            If the URI asks for another one.
        MismatchError
            If it is not among :attr:`metrics`.
        """
        if metric not in self.metrics:
            raise MismatchError(
                f"{self.uri} cannot compare vectors by {metric}", remedy="Choose another store."
            )
        if self.metric() not in (None, metric):
            raise UsageError(
                f"{self.uri}: the collection's metric is {metric}",
                remedy="Take metric= out: a migration does not change it.",
            )

    def described(
        self, mark: Mark | None, sample: Sequence[Payload], fields: Iterable[str] = (), **told: Any
    ) -> CollectionDescription:
        """Describe the collection, by its mark and the payloads of its first points.

        Parameters
        ----------
        fields
            Payload fields that are known without reading a point.
        told
            What else a description is to say.

        Raises
        ------
        InputError
            As :meth:`text_field`.
        """
        names = list(dict.fromkeys([*fields, *(name for payload in sample for name in payload)]))
        noted = (mark.text if mark else None) or detect_text_field(sample)
        return CollectionDescription(
            uri=str(self.uri),
            payload_fields=tuple(names),
            text_field=self.text_field(noted, names),
            provenance=mark.provenance if mark else None,
            **told,
        )

    def text_field(self, noted: str | None, fields: Iterable[str]) -> str | None:
        """Return the field that holds the text, as the URI says, else as noted.

        Raises
        ------
        InputError
            If the URI names none of ``fields``.
        """
        asked, known = self.option("text"), list(fields)
        if asked is not None and asked not in known:
            raise InputError(
                f"{self.uri} has no payload field {asked!r}",
                remedy=f"There are: {name_some(known) or 'none'}.",
            )
        return asked or noted
