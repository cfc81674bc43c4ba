"""Names that readers open, given in full or by their last part."""

from __future__ import annotations

import re

_SCHEME = re.compile(r"[a-z][a-z0-9-]*(\+[a-z0-9]+)?:")


def name_uri(name: str, target: str) -> str:
    """Return a name as a URI; where it is a last part alone, it is taken to be beside ``target``.

    Parameters
    ----------
    target
        A collection's URI, whose options apply to the name too: ``qdrant://host/new?grpc=false``
        and ``articles`` make ``qdrant://host/articles?grpc=false``.
    """
    if _SCHEME.match(name):
        return name
    place, question, options = target.partition("?")
    scheme, _, path = place.partition(":")
    folder, slash, _ = path.rstrip("/").rpartition("/")
    return f"{scheme}:{folder}{slash}{name}{question}{options}"
