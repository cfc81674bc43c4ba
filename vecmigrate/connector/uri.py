"""Where a collection lives: ``scheme:location?option=value``, the scheme naming the connector."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlencode

from vecmigrate.errors import UsageError

VECTOR, IN_PLACE = "vector", "in_place"
"""The options that mean the same in every store: which of a point's vectors, and whether that is
added, or was, to points that are the source's own."""

_SCHEME = re.compile(r"([a-z][a-z0-9-]*)(?:\+([a-z][a-z0-9]*))?:(.*)", re.DOTALL)
_PASSWORD = re.compile(r"//[^/@]*:[^/@]*@")


@dataclass(frozen=True, slots=True)
class StoreURI:
    """A parsed URI.

    Attributes
    ----------
    scheme
        The connector's name, as ``faiss`` or ``qdrant``.
    transport
        What follows a plus sign in the scheme, as ``https`` in ``qdrant+https://host/name``; or "".
    location
        All between the scheme's colon and the question mark, percent-decoded: a path, or
        ``//host:port/name``.
    options
        The query part. Connectors refuse what they do not know with :meth:`check_options`.
    """

    scheme: str
    location: str
    transport: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    text: str = ""

    def __str__(self) -> str:
        return self.text

    @property
    def is_in_place(self) -> bool:
        """True if it names a vector that is beside the old one, on the source's own points."""
        return self.options.get(IN_PLACE) == "true"

    @property
    def is_path(self) -> bool:
        """True unless the location names a host, as ``//host/name``, or has a transport."""
        return not (self.transport or self.location.startswith("//") or "://" in self.location)

    def canonical(self) -> str:
        """Return the URI without its options, a path as an absolute one.

        All ways to the path's folder come to the same; the last name is not followed.
        """
        if not self.is_path:
            return self.text.partition("?")[0]
        path = Path(self.location)
        # "." and ".." are names of no file.
        named = path.name not in ("", "..")
        real = path.parent.resolve() / path.name if named else path.resolve()
        quoted = str(real).replace("%", "%25").replace("?", "%3F")
        return f"{self.scheme}:{quoted}"

    def with_options(self, **changes: str | None) -> StoreURI:
        """Return the URI with options set, or with None left out."""
        options = {**self.options, **changes}
        given = {name: value for name, value in options.items() if value is not None}
        if given == self.options:
            return self
        place = self.text.partition("?")[0]
        query = urlencode(given, quote_via=quote)
        return parse_uri(f"{place}?{query}" if query else place)

    def check_options(self, known: Iterable[str]) -> None:
        """Raise :class:`UsageError` if an option is not among ``known``."""
        check_options(self.text, self.options, known)


def parse_options(text: str, query: str) -> dict[str, str]:
    """Parse ``name=value&...``, the query part of ``text``.

    Raises
    ------
    UsageError
        If an option is given twice.
    """
    options: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in options:
            raise UsageError(f"{text!r} gives {name!r} twice", remedy="Give each option once.")
        options[name] = value
    return options


def check_options(text: str, options: Iterable[str], known: Iterable[str]) -> None:
    """Raise :class:`UsageError` if one of ``text``'s options is not among ``known``."""
    for name in options:
        if name not in known:
            raise UsageError(
                f"{text!r}: there is no option {name!r}",
                remedy=f"Known here: {', '.join(sorted(known)) or 'none'}.",
            )


def parse_uri(text: str) -> StoreURI:
    """Parse ``scheme[+transport]:location[?name=value&...]``.

    Raises
    ------
    UsageError
        If there is no scheme or no location, an option is given twice, or the URI holds a
        password.
    """
    match = _SCHEME.fullmatch(text)
    if match is None:
        raise UsageError(
            f"{text!r} is not a collection's URI",
            remedy="Write faiss:PATH, or qdrant:DIRECTORY/COLLECTION, or qdrant://HOST:PORT/COLLECTION.",
        )
    scheme, transport, rest = match[1], match[2] or "", match[3]
    if _PASSWORD.search(rest):
        raise UsageError(
            f"a {scheme} URI holds a password",
            remedy="Secrets come from the environment only; take it out of the URI.",
        )
    location, _, query = rest.partition("?")
    if not location:
        raise UsageError(
            f"{text!r} names no location", remedy=f"Write what follows {scheme}: as a path or host."
        )
    return StoreURI(scheme, unquote(location), transport, parse_options(text, query), text)
