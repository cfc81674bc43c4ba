"""Deletes an old collection, or removes an old vector, once readers have a verified new one."""

from __future__ import annotations

import sqlite3
from typing import Any

from pydantic import BaseModel

from vecmigrate.connector.addresses import collection_of, followed_uri
from vecmigrate.connector.registry import require_switcher
from vecmigrate.connector.uri import VECTOR, parse_uri
from vecmigrate.cutover.move import ReaderView, view_of
from vecmigrate.cutover.options import DropOptions
from vecmigrate.cutover.readers import current_entry, same_store, seen_through, without_vector
from vecmigrate.cutover.records import CutoverLog, CutoverRecord
from vecmigrate.errors import MismatchError, NotVerifiedError
from vecmigrate.verification.gate import contents_of, require_verified
from vecmigrate.verification.options import Progress
from vecmigrate.verification.records import Verification, VerificationLog


class Dropping(BaseModel, frozen=True):
    """What is deleted, or would be.

    Attributes
    ----------
    name
        What readers open.
    collection
        The old collection.
    vector
        The old vector, if it is on the points that readers have: it alone is removed.
    belongings
        Files, a collection's name, or a vector's.
    readers
        What readers have instead.
    verification
        What that rests on.
    """

    name: str
    collection: str
    vector: str | None = None
    belongings: tuple[str, ...]
    readers: ReaderView
    verification: Verification
    done: bool = False


def plan_drop(
    name: str,
    collection: str | None,
    state: sqlite3.Connection,
    options: DropOptions | None = None,
    *,
    progress: Progress | None = None,
    **given: Any,
) -> Dropping:
    """Tell what would be deleted, having made sure that nobody misses it.

    If readers have a vector that was added in place, that is the old vector, and never the
    collection: its points are theirs.

    The collection is read once: only that tells that it holds nothing that was not moved.

    Parameters
    ----------
    name
        What readers open.
    collection
        What to delete; None for what readers had before the last cutover, or in place for the old
        vector.
    state
        Where verifications and cutovers are recorded.
    options, given
        :class:`DropOptions`, or fields of it by name.
    progress
        Called with the number of points just read.

    Raises
    ------
    NotVerifiedError
        If what readers have now has no passing verification of its present state; or
        ``collection`` is not, as it is now, the source of one that passed.
    MismatchError
        If no cutover led readers to what they have, they had nothing before it and no
        collection is named, they have ``collection`` itself, or it is no collection of the record.
    InputError, UsageError, UnreachableError
    """
    asked = DropOptions.given(options, given)
    name, log = without_vector(name), CutoverLog(state)
    entry = current_entry(log, name)
    verifications = VerificationLog(state)
    kept = None
    if asked.target_changed and entry.verification is not None:
        kept = verifications.get(entry.verification)
    record = (kept or require_verified(verifications, entry.target)).verification
    chosen = collection or entry.previous or _source_in_place(entry, record, name)
    vector = _vector_to_drop(chosen, entry, record, name)
    had = [e.previous for e in log.of(collection_of(name)) if e.previous]
    if not any(_same(chosen, known, vector) for known in (*had, record.source)):
        raise MismatchError(
            f"{chosen} is neither what readers of {name} had nor what {entry.target} was verified "
            "against",
            remedy=f"Name one of: {', '.join(dict.fromkeys((*had, record.source)))}.",
        )
    switcher, uri = require_switcher(chosen), parse_uri(chosen)
    belongings = switcher.belongings(uri) if vector is None else switcher.vector_belongings(uri)
    if verifications.latest_of_source(contents_of(chosen, progress=progress)) is None:
        raise NotVerifiedError(
            f"no verification that passed had {chosen} as it is now: it may hold what the new "
            f"{'collection' if vector is None else 'vector'} lacks",
            remedy=f"Run: vecmigrate verify {chosen} {entry.target} --translator FILE.",
        )
    return Dropping(
        name=name,
        collection=chosen,
        vector=vector,
        belongings=tuple(belongings),
        readers=view_of(seen_through(name, entry.target), record.target_encoder).model_copy(
            update={"collection": entry.target}
        ),
        verification=record,
    )


def drop_source(
    name: str,
    collection: str | None,
    state: sqlite3.Connection,
    options: DropOptions | None = None,
    *,
    progress: Progress | None = None,
    **given: Any,
) -> Dropping:
    """Delete the old collection; parameters and errors as :func:`plan_drop`."""
    plan = plan_drop(name, collection, state, options, progress=progress, **given)
    switcher, uri = require_switcher(plan.collection), parse_uri(plan.collection)
    if plan.vector is None:
        switcher.drop(uri)
    else:
        switcher.drop_vector(uri)
    log = CutoverLog(state)
    for entry in log.of(collection_of(plan.name)):
        known = entry.previous
        if known is None and entry.target == plan.readers.collection:
            known = plan.verification.source
        if known is None or entry.dropped_at is not None:
            continue
        if _same(known, plan.collection, plan.vector):
            log.drop(entry.id)
    return plan.model_copy(update={"done": True})


def _source_in_place(entry: CutoverRecord, record: Verification, name: str) -> str:
    """Return the old vector that readers' points had when a name was made for them.

    Raises
    ------
    MismatchError
        If it is a collection, which readers of the name never had.
    """
    if parse_uri(entry.target).is_in_place:
        return record.source
    raise MismatchError(
        f"readers of {name} had nothing before the cutover of {entry.begun_at}",
        remedy=f"Name the collection to delete: {record.source} is what {entry.target} was "
        "verified against.",
    )


def _same(one: str, other: str, vector: str | None) -> bool:
    """Tell whether two URIs name one collection, and if ``vector`` is to go, that vector of it."""
    if not same_store(one, other) or collection_of(one) != collection_of(other):
        return False
    named = {parse_uri(uri).options.get(VECTOR) for uri in (one, other)}
    return vector is None or named == {vector}


def _vector_to_drop(
    collection: str, entry: CutoverRecord, record: Verification, name: str
) -> str | None:
    """Return the vector that alone is to go, or None if the collection is no reader's.

    Raises
    ------
    MismatchError
        If readers have the collection, and it is not said which of its other vectors is to go.
    """
    if not same_store(collection, name):
        return None
    theirs, vector = parse_uri(entry.target), parse_uri(collection).options.get(VECTOR)
    readers = {collection_of(entry.target)}
    if theirs.is_in_place and same_store(record.source, name):
        # The same collection, even if its server was given another name there.
        readers.add(collection_of(record.source))
    if collection_of(followed_uri(collection)) not in readers:
        return None
    if not theirs.is_in_place or vector == theirs.options.get(VECTOR):
        raise MismatchError(
            f"{collection} is what readers of {name} get", remedy="Name the old collection."
        )
    if vector is None:
        raise MismatchError(
            f"readers of {name} get a vector of {collection} itself",
            remedy="Name the old vector by ?vector=NAME; one without a name stays, since its store "
            "removes none.",
        )
    return vector
