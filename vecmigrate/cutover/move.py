"""Leads readers of a name over to a new collection, and back."""

from __future__ import annotations

import sqlite3

from pydantic import BaseModel, ConfigDict

from vecmigrate.cutover.log import CutoverLog, Entry
from vecmigrate.cutover.naming import name_uri
from vecmigrate.cutover.view import ReaderView, view_of
from vecmigrate.errors import InputError, MismatchError, UsageError, VecmigrateError, WriteError
from vecmigrate.registry import open_source, require_switcher
from vecmigrate.switcher import Switcher
from vecmigrate.uri import parse_uri
from vecmigrate.verification.fingerprint import fingerprint_of
from vecmigrate.verification.gate import require_verified
from vecmigrate.verification.log import VerificationLog
from vecmigrate.verification.record import Verification


class Move(BaseModel):
    """Readers led from one collection to another, or what that would be.

    Attributes
    ----------
    name
        What readers open.
    before, after
        What they get; ``before`` is None where they got nothing.
    kept
        URI of what they had before; None where that was nothing.
    done
        False where nothing was changed: a dry run, or they had it already.
    verification
        What the target's verification found, None where there is none.
    notes
        What else a user should know.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    before: ReaderView | None
    after: ReaderView
    kept: str | None
    done: bool
    verification: Verification | None = None
    notes: tuple[str, ...] = ()


def cut_over(
    name: str,
    target: str,
    state: sqlite3.Connection,
    *,
    unverified: bool = False,
    dry_run: bool = False,
) -> Move:
    """Lead readers of ``name`` to ``target`` in one step; what they had is kept.

    Parameters
    ----------
    name
        The URI that readers open, or its last part alone: then beside ``target``.
    state
        Where verifications and cutovers are recorded.
    unverified
        Do without a verification.
    dry_run
        Change nothing.

    Raises
    ------
    NotVerifiedError
        Where the target's verification is missing, failed or out of date.
    UsageError, InputError, MismatchError, WriteError, UnreachableError
        From the store; readers see what they saw.
    """
    name = name_uri(name, target)
    switcher = _switcher(name, target)
    switcher.check(parse_uri(name), parse_uri(target))
    # Held open: embedded storage is loaded anew where nobody else has it open.
    with open_source(target):
        return _cut_over(switcher, name, target, state, unverified=unverified, dry_run=dry_run)


def _cut_over(
    switcher: Switcher,
    name: str,
    target: str,
    state: sqlite3.Connection,
    *,
    unverified: bool,
    dry_run: bool,
) -> Move:
    uri, goal = parse_uri(name), parse_uri(target)
    verifications = VerificationLog(state)
    kept = None if unverified else require_verified(verifications, target)
    record = kept.verification if kept else None
    current = switcher.current(uri)
    lasting = switcher.current(goal) or target
    arrived = switcher.spelled(parse_uri(lasting))
    before = None if current is None else _view_before(current, record)
    after = view_of(target, record.target_encoder if record else None)
    same = current is not None and switcher.spelled(parse_uri(current)) == arrived
    notes: tuple[str, ...] = (f"readers of {name} have {target} already",)
    if not same:
        notes = _notes(before, after) + (_stale_source(record) if record else ())
    if dry_run or same:
        return Move(
            name=name, before=before, after=after, kept=current, done=False,
            verification=record, notes=notes,
        )  # fmt: skip
    log = CutoverLog(state)
    previous = switcher.keep(uri)
    number = log.begin(
        switcher.spelled(uri), previous, lasting, arrived, kept.number if kept else None
    )
    switcher.switch(uri, goal)
    _check_arrived(switcher, name, arrived)
    log.finish(number)
    return Move(
        name=name,
        before=before,
        after=_view_through(name, lasting, record),
        kept=previous,
        done=True,
        verification=record,
        notes=notes,
    )


def roll_back(name: str, state: sqlite3.Connection, *, dry_run: bool = False) -> Move:
    """Lead readers of ``name`` back to what they had before the last cutover.

    Nothing is asked of the old collection but that it is there: going back must always be
    possible. Done again, it undoes the cutover before that one.

    Raises
    ------
    MismatchError
        Where no recorded cutover led to what readers have now, or there was nothing before it.
    InputError
        Where the old collection is gone.
    UsageError, WriteError, UnreachableError
    """
    switcher, uri = require_switcher(name), parse_uri(name)
    log, verifications = CutoverLog(state), VerificationLog(state)
    entry = current_entry(switcher, log, name)
    if entry.previous is None:
        raise MismatchError(
            f"readers of {name} had nothing before the cutover of {entry.begun_at}",
            remedy="Cut them over to another collection instead.",
        )
    if entry.dropped_at is not None:
        raise InputError(
            f"{entry.previous}, which readers of {name} had before, was deleted at "
            f"{entry.dropped_at}",
            remedy="Restore it or make it again, then cut over to it.",
        )
    goal = parse_uri(entry.previous)
    switcher.check(uri, goal)
    kept = None if entry.verification is None else verifications.get(entry.verification)
    record = kept.verification if kept else None
    before = _view_through(name, entry.target, record)
    after = _view_before(entry.previous, record)
    notes = _notes(before, after)
    if not dry_run:
        switcher.switch(uri, goal)
        _check_arrived(switcher, name, switcher.spelled(goal))
        log.undo(entry.id)
    return Move(
        name=name, before=before, after=after, kept=entry.target, done=not dry_run,
        verification=record, notes=notes,
    )  # fmt: skip


def current_entry(switcher: Switcher, log: CutoverLog, name: str) -> Entry:
    """Return the cutover that led readers of ``name`` to what they have now.

    Raises
    ------
    MismatchError
        Where none did.
    """
    uri = parse_uri(name)
    current = switcher.current(uri)
    entries = log.of(switcher.spelled(uri))
    if current is not None:
        now = switcher.spelled(parse_uri(current))
        for entry in entries:
            if entry.target_spelled == now:
                return entry
    raise MismatchError(
        f"no cutover of {name} to what its readers get now ({current or 'nothing'}) is recorded",
        remedy="Give the --state file that the cutover was recorded in, or lead readers where they "
        "are to go with: vecmigrate cutover NAME --to COLLECTION.",
    )


def _switcher(name: str, target: str) -> Switcher:
    if parse_uri(name).scheme != parse_uri(target).scheme:
        raise UsageError(
            f"{name} and {target} are of two stores",
            remedy="Readers of one store cannot be led into another: name a collection of theirs, "
            "or point them at the new store yourself.",
        )
    return require_switcher(name)


def _view_through(name: str, target: str, record: Verification | None) -> ReaderView:
    """Open the readers' name itself, and say which collection that is."""
    seen = view_of(name, record.target_encoder if record else None)
    return seen.model_copy(update={"collection": target})


def _view_before(collection: str, record: Verification | None) -> ReaderView:
    return view_of(collection, record.source_encoder if record else None)


def _notes(before: ReaderView | None, after: ReaderView) -> tuple[str, ...]:
    if before is None:
        return ()
    if before.encoder is not None and before.encoder == after.encoder:
        return ()
    if before.dimension == after.dimension:
        return (
            "both have the same dimension: queries of the wrong encoder are answered without an "
            "error, and wrongly",
        )
    return ("queries of the wrong encoder are refused, as the dimensions differ",)


def _stale_source(record: Verification) -> tuple[str, ...]:
    """Tell where the source is no longer what the target was verified against."""
    try:
        unchanged = fingerprint_of(record.source) == record.source_fingerprint
    except VecmigrateError:
        return (f"{record.source} cannot be read any more: whether it changed is not known",)
    if unchanged:
        return ()
    return (
        f"{record.source} changed since the verification of {record.finished_at}: what is new "
        "there is not in the target",
    )


def _check_arrived(switcher: Switcher, name: str, arrived: str) -> None:
    current = switcher.current(parse_uri(name))
    if current is None or switcher.spelled(parse_uri(current)) != arrived:
        raise WriteError(
            f"readers of {name} get {current or 'nothing'} instead of {arrived}",
            remedy="Somebody else moves them too: find out who, then run this again.",
        )
