"""Deletes an old collection once readers have a verified new one."""

from __future__ import annotations

import sqlite3

from pydantic import BaseModel, ConfigDict

from vecmigrate.cutover.log import CutoverLog, Entry
from vecmigrate.cutover.move import current_entry
from vecmigrate.cutover.view import ReaderView, view_of
from vecmigrate.errors import MismatchError, NotVerifiedError
from vecmigrate.registry import require_switcher
from vecmigrate.uri import parse_uri
from vecmigrate.verification.fingerprint import contents_of
from vecmigrate.verification.gate import require_verified
from vecmigrate.verification.log import VerificationLog
from vecmigrate.verification.record import Verification
from vecmigrate.verification.settings import Progress


class Dropping(BaseModel):
    """What is deleted, or would be.

    Attributes
    ----------
    name
        What readers open.
    collection
        The old collection.
    belongings
        Files, or a collection's name.
    readers
        What readers have instead.
    verification
        What that rests on.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    collection: str
    belongings: tuple[str, ...]
    readers: ReaderView
    verification: Verification
    done: bool = False


def plan_drop(
    name: str,
    collection: str | None,
    state: sqlite3.Connection,
    *,
    target_changed: bool = False,
    progress: Progress | None = None,
) -> Dropping:
    """Tell what would be deleted, having made sure that nobody misses it.

    The collection is read once: only that tells that it holds nothing that was not moved.

    Parameters
    ----------
    name
        What readers open.
    collection
        What to delete; None for what readers had before the last cutover.
    state
        Where verifications and cutovers are recorded.
    target_changed
        Rest on the verification that the cutover rested on, though the target has changed since,
        as it does once applications write there.
    progress
        Called with the number of points just read.

    Raises
    ------
    NotVerifiedError
        Where what readers have now has no passing verification of its present state; or
        ``collection`` is not, as it is now, the source of one that passed.
    MismatchError
        Where no cutover led readers to what they have, they have ``collection`` itself, or it is
        no collection of the record.
    InputError, UsageError, UnreachableError
    """
    switcher, log = require_switcher(name), CutoverLog(state)
    entry = current_entry(switcher, log, name)
    verifications = VerificationLog(state)
    kept = None
    if target_changed and entry.verification is not None:
        kept = verifications.get(entry.verification)
    record = (kept or require_verified(verifications, entry.target)).verification
    chosen = collection or entry.previous or record.source
    _refuse_readers_own(chosen, entry, name)
    had = [e.previous for e in log.of(switcher.spelled(parse_uri(name))) if e.previous]
    if not any(_same(chosen, known) for known in (*had, record.source)):
        raise MismatchError(
            f"{chosen} is neither what readers of {name} had nor what {entry.target} was verified "
            "against",
            remedy=f"Name one of: {', '.join(dict.fromkeys((*had, record.source)))}.",
        )
    belongings = require_switcher(chosen).belongings(parse_uri(chosen))
    if verifications.latest_of_source(contents_of(chosen, progress=progress)) is None:
        raise NotVerifiedError(
            f"no verification that passed had {chosen} as it is now: it may hold what the new "
            "collection lacks",
            remedy=f"Run: vecmigrate verify {chosen} {entry.target} --translator FILE.",
        )
    return Dropping(
        name=name,
        collection=chosen,
        belongings=tuple(belongings),
        readers=view_of(name, record.target_encoder).model_copy(
            update={"collection": entry.target}
        ),
        verification=record,
    )


def drop_source(
    name: str,
    collection: str | None,
    state: sqlite3.Connection,
    *,
    target_changed: bool = False,
    progress: Progress | None = None,
) -> Dropping:
    """Delete the old collection; parameters and errors as :func:`plan_drop`."""
    plan = plan_drop(name, collection, state, target_changed=target_changed, progress=progress)
    require_switcher(plan.collection).drop(parse_uri(plan.collection))
    log = CutoverLog(state)
    for entry in log.of(require_switcher(name).spelled(parse_uri(name))):
        known = entry.previous
        if known is not None and entry.dropped_at is None and _same(known, plan.collection):
            log.drop(entry.id)
    return plan.model_copy(update={"done": True})


def _same(one: str, other: str) -> bool:
    first, second = parse_uri(one), parse_uri(other)
    if first.scheme != second.scheme:
        return False
    switcher = require_switcher(one)
    return switcher.spelled(first) == switcher.spelled(second)


def _refuse_readers_own(collection: str, entry: Entry, name: str) -> None:
    uri, switcher = parse_uri(collection), require_switcher(collection)
    if uri.scheme != parse_uri(name).scheme:
        return
    current = switcher.current(uri)
    if current is not None and switcher.spelled(parse_uri(current)) == entry.target_spelled:
        raise MismatchError(
            f"{collection} is what readers of {name} get",
            remedy="Name the old collection.",
        )
