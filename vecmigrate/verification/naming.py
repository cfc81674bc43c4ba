"""What a record calls a collection, so that it is found again."""

from __future__ import annotations

from vecmigrate.registry import find_switcher
from vecmigrate.uri import parse_uri


def lasting(collection: str) -> str:
    """Return a URI that leads to the same collection from any directory, options kept.

    Where it is a name that readers open, it is followed to what they get now. Of a store whose
    connector tells none it is the URI as it is.
    """
    switcher, uri = find_switcher(collection), parse_uri(collection)
    return (switcher.current(uri) if switcher else None) or collection


def spelled(collection: str) -> str:
    """Return the one spelling of :func:`lasting`, without options, by which two are compared."""
    switcher, led = find_switcher(collection), lasting(collection)
    return switcher.spelled(parse_uri(led)) if switcher else led.partition("?")[0]
