"""Names that readers open, given in full or by their last part."""

from __future__ import annotations

import re

from vecmigrate.connector.uri import IN_PLACE, VECTOR, parse_uri

_SCHEME = re.compile(r"[a-z][a-z0-9-]*(\+[a-z0-9]+)?:")


def name_uri(name: str, target: str) -> str:
    """Return a name as a URI; where it is a last part alone, it is taken to be beside ``target``.

    Parameters
    ----------
    target
        A collection's URI, whose options apply to the name too, but for those that choose a
        vector: ``qdrant://host/new?grpc=false&vector=v`` and ``articles`` make
        ``qdrant://host/articles?grpc=false``.
    """
    if is_uri(name):
        return without_vector(name)
    place, question, options = target.partition("?")
    scheme, _, path = place.partition(":")
    folder, slash, _ = path.rstrip("/").rpartition("/")
    return without_vector(f"{scheme}:{folder}{slash}{name}{question}{options}")


def is_uri(name: str) -> bool:
    """Tell whether a name is given in full."""
    return _SCHEME.match(name) is not None


def without_vector(uri: str) -> str:
    """Return a URI without the options that choose a vector: a name leads to all of them."""
    return str(parse_uri(uri).with_options(vector=None, in_place=None))


def seen_through(name: str, target: str) -> str:
    """Return the URI by which a reader of ``name`` opens the vector that ``target`` names."""
    chosen = parse_uri(target).options
    uri = parse_uri(name)
    return str(uri.with_options(vector=chosen.get(VECTOR), in_place=chosen.get(IN_PLACE)))
