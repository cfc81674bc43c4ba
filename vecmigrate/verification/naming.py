"""What a record calls a collection, so that it is found again."""

from __future__ import annotations

from urllib.parse import quote

from vecmigrate.registry import find_switcher
from vecmigrate.uri import VECTOR, parse_uri


def lasting(collection: str) -> str:
    """Return a URI that leads to the same collection from any directory, options kept.

    Where it is a name that readers open, it is followed to what they get now. Of a store whose
    connector tells none it is the URI as it is.
    """
    switcher, uri = find_switcher(collection), parse_uri(collection)
    return (switcher.current(uri) if switcher else None) or collection


def spelled(collection: str) -> str:
    """Return :func:`spelling` of :func:`lasting`, by which two collections are compared."""
    return spelling(lasting(collection))


def spelling(uri: str) -> str:
    """Return the one spelling of a URI that is not followed, without its options.

    A vector that was added in place is spelled with its name: it shares a collection with the one
    that it was made from.
    """
    parsed = parse_uri(uri)
    vector = parsed.options.get(VECTOR, "")
    plain = collection_of(uri)
    return f"{plain}?{VECTOR}={quote(vector, safe='')}" if parsed.is_in_place else plain


def collection_of(uri: str) -> str:
    """Return the one spelling of the collection that a URI names, or names a vector of."""
    switcher = find_switcher(uri)
    return switcher.spelled(parse_uri(uri)) if switcher else uri.partition("?")[0]
