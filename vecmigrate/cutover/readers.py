"""What readers of a name have: the store tells the collection, the record its vector."""

from __future__ import annotations

import re
from collections.abc import Iterable

from vecmigrate.connector.addresses import collection_of
from vecmigrate.connector.registry import require_switcher
from vecmigrate.connector.uri import IN_PLACE, VECTOR, parse_uri
from vecmigrate.cutover.records import CutoverLog, CutoverRecord
from vecmigrate.errors import MismatchError


def readers_have(log: CutoverLog, name: str) -> str | None:
    """Return the URI of what readers of ``name`` have now; None if they have nothing.

    It names a vector if the record of the cutover that led them there does.

    Raises
    ------
    UsageError, InputError, UnreachableError
        From the store.
    """
    current = require_switcher(name).current(parse_uri(without_vector(name)))
    entry = None if current is None else _entry_of(log, name, current)
    return current if entry is None or current is None else seen_through(current, entry.target)


def current_entry(log: CutoverLog, name: str) -> CutoverRecord:
    """Return the cutover that led readers of ``name`` to what they have now.

    Raises
    ------
    MismatchError
        If none did.
    """
    current = require_switcher(name).current(parse_uri(without_vector(name)))
    entry = None if current is None else _entry_of(log, name, current)
    if entry is None:
        raise MismatchError(
            f"no cutover of {name} to what its readers get now ({current or 'nothing'}) is "
            "recorded",
            remedy="Give the --state file that the cutover was recorded in, or lead readers where "
            "they are to go with: vecmigrate cutover NAME --to COLLECTION.",
        )
    return entry


def as_asked(current: str, hint: str | None, known: Iterable[str]) -> str:
    """Return what readers have with the vector that they ask for, as far as that is known.

    Parameters
    ----------
    hint
        The vector that the user named.
    known
        URIs of the old collection, the most trusted first.
    """
    if VECTOR in parse_uri(current).options:
        return current
    if hint is not None:
        return str(parse_uri(current).with_options(vector=hint))
    here = collection_of(current)
    old = [uri for uri in known if same_store(uri, current) and collection_of(uri) == here]
    return seen_through(current, old[0]) if old else current


def same_store(one: str, other: str) -> bool:
    """Tell whether two URIs are of one store."""
    return parse_uri(one).scheme == parse_uri(other).scheme


def _entry_of(log: CutoverLog, name: str, current: str) -> CutoverRecord | None:
    here = collection_of(current)
    for entry in log.of(collection_of(name)):
        if here in (entry.target_spelled, collection_of(entry.target)):
            return entry
    return None


_SCHEME = re.compile(r"[a-z][a-z0-9-]*(\+[a-z0-9]+)?:")


def name_uri(name: str, target: str) -> str:
    """Return a name as a URI; if it is a last part alone, it is taken to be beside ``target``.

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
