"""The canonical names of collections, by which they are compared and found again."""

from __future__ import annotations

from urllib.parse import quote

from vecmigrate.connector.registry import connector_of, find_switcher
from vecmigrate.connector.uri import VECTOR, StoreURI, parse_uri


def followed_uri(collection: str) -> str:
    """Return a URI that leads to the same collection from any directory, options kept.

    If it is a name that readers open, it is followed to what they get now. Of a store whose
    connector tells none it is the URI as it is.
    """
    switcher, uri = find_switcher(collection), parse_uri(collection)
    return (switcher.current(uri) if switcher else None) or collection


def followed_place(collection: str) -> str:
    """Return the place that a URI leads to, by which two collections are compared."""
    return canonical_place(followed_uri(collection))


def canonical_place(uri: str) -> str:
    """Return the one spelling of a URI that is not followed, without its options.

    A vector that was added in place is spelled with its name: it shares a collection with the one
    that it was made from.
    """
    parsed = parse_uri(uri)
    vector = parsed.options.get(VECTOR, "")
    plain = collection_of(uri)
    return f"{plain}?{VECTOR}={quote(vector, safe='')}" if parsed.is_in_place else plain


def collection_of(uri: str) -> str:
    """Return the one spelling of the collection that a URI names, or names a vector of.

    See :meth:`Connector.canonical`. A connector of a third party may have none; before there was
    one, a switcher told the spelling.
    """
    connector, parsed = connector_of(uri)
    if hasattr(connector, "canonical"):
        return str(connector.canonical(parsed))
    return str(getattr(find_switcher(uri), "spelled", StoreURI.canonical)(parsed))


def canonical_uri(uri: str) -> str:
    """Return a collection's URI in its one spelling, the same from any directory.

    However it is reached: by gRPC as by REST.
    """
    connector, _ = connector_of(uri)
    options = [
        option
        for option in filter(None, uri.partition("?")[2].split("&"))
        if option.partition("=")[0] not in getattr(connector, "reaching", ())
    ]
    return collection_of(uri) + ("?" if options else "") + "&".join(options)


def former_uri(uri: str) -> str:
    """Return what :func:`canonical_uri` was before: as given, for a store without a switcher."""
    return uri if find_switcher(uri) is None else canonical_uri(uri)
