"""Leads readers of a name over to a new collection, and back."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from pydantic import BaseModel

from vecmigrate.connector.addresses import canonical_place, collection_of, followed_uri
from vecmigrate.connector.registry import hold, open_source, require_switcher
from vecmigrate.connector.switcher import Switcher
from vecmigrate.connector.uri import VECTOR, parse_uri
from vecmigrate.cutover.options import CutoverOptions, RollbackOptions
from vecmigrate.cutover.readers import (
    as_asked,
    current_entry,
    is_uri,
    name_uri,
    readers_have,
    same_store,
    seen_through,
    without_vector,
)
from vecmigrate.cutover.records import CutoverLog
from vecmigrate.errors import (
    InputError,
    MismatchError,
    UsageError,
    VecmigrateError,
    VectorNotFoundError,
    WriteError,
)
from vecmigrate.points.collection import EncoderIdentity, Metric
from vecmigrate.state.file import file_of
from vecmigrate.state.ledger import ledger_path, open_ledger
from vecmigrate.verification.gate import fingerprint_of, require_verified
from vecmigrate.verification.records import StoredVerification, Verification, VerificationLog


class CaughtUp(BaseModel, frozen=True):
    """What a cutover brought of what changed at the source meanwhile.

    Attributes
    ----------
    passes, brought
        Passes before the switch, and the points that they brought.
    behind
        Points that the pass after the switch brought: until then readers got them as they had been.
    seconds
        From the switch until that pass had ended.
    """

    passes: int
    brought: int
    behind: int
    seconds: float


class Move(BaseModel, frozen=True):
    """Readers led from one collection to another, or what that would be.

    Attributes
    ----------
    name
        What readers open.
    before, after
        What they get; ``before`` is None if they got nothing.
    kept
        URI of what they had before; None if that was nothing.
    done
        False if nothing was changed: a dry run, or they had it already.
    verification
        What the target's verification found, None if there is none.
    notes
        What else a user should know.
    writers
        What those who write there have to change together with readers.
    caught_up
        What was brought of what changed at the source; None if that was not asked for.
    """

    name: str
    before: ReaderView | None
    after: ReaderView
    kept: str | None
    done: bool
    verification: Verification | None = None
    notes: tuple[str, ...] = ()
    writers: tuple[str, ...] = ()
    caught_up: CaughtUp | None = None


def cut_over(
    name: str,
    target: str,
    state: sqlite3.Connection,
    options: CutoverOptions | None = None,
    *,
    catch_up: Callable[[str], None] | None = None,
    **given: Any,
) -> Move:
    """Lead readers of ``name`` to ``target`` in one step; what they had is kept.

    If ``target`` was added in place to the collection that they have, only the record changes, by
    which they are told which vector to ask for; ``name`` may then be the collection itself.

    Parameters
    ----------
    name
        The URI that readers open, or its last part alone: then beside ``target``.
    state
        Where verifications and cutovers are recorded.
    options, given
        :class:`CutoverOptions`, or fields of it by name.
    catch_up
        Called with the source once all is checked, right before the switch: brings ``target`` in
        step.

    Raises
    ------
    NotVerifiedError
        If the target's verification is missing, failed or out of date.
    LockedError
        If another run writes the target.
    UsageError, InputError, MismatchError, WriteError, UnreachableError
        From the store; readers see what they saw.
    """
    asked = CutoverOptions.given(options, given)
    hint = parse_uri(name).options.get(VECTOR) if is_uri(name) else None
    name = name_uri(name, target)
    switcher = _switcher(name, target)
    switcher.check(parse_uri(name), parse_uri(target))
    # Held open: embedded storage is loaded anew if nobody else has it open.
    with ExitStack() as stack:
        opened = stack.enter_context(open_source(target))
        if not asked.dry_run:
            stack.enter_context(hold(target))
        made = opened.describe().provenance
        kept = None if asked.unverified else require_verified(VerificationLog(state), target)
        known = [kept.verification.source] if kept else [made.source] if made else []
        goal = followed_uri(target)
        have = readers_have(CutoverLog(state), name)
        current = None if have is None else as_asked(have, hint, known)
        record = kept.verification if kept else None
        move = _planned(switcher, name, current, goal, record)
        if move.done and record is not None and catch_up is None:
            move = move.model_copy(update={"notes": move.notes + _stale_source(record)})
        if asked.dry_run or not move.done:
            return move.model_copy(update={"done": False})
        if catch_up is not None:
            catch_up(_source_of(target, known))
        return _led(switcher, move, goal, state, kept)


def _planned(
    switcher: Switcher, name: str, current: str | None, goal: str, record: Verification | None
) -> Move:
    """Tell what a cutover would do; ``done`` is False if there is nothing to do."""
    before = None
    if current is not None:
        before = view_before(current, record.source_encoder if record else None)
    after = view_of(goal, record.target_encoder if record else None)
    same = current is not None and canonical_place(current) == canonical_place(goal)
    notes: tuple[str, ...] = (f"readers of {name} have {goal} already",)
    if not same:
        notes = _notes(before, after)
    return Move(
        name=name, before=before, after=after, kept=current, done=not same, verification=record,
        notes=notes, writers=_writers(switcher, before, after),
    )  # fmt: skip


def _led(
    switcher: Switcher,
    move: Move,
    goal: str,
    state: sqlite3.Connection,
    kept: StoredVerification | None,
) -> Move:
    """Lead readers over as planned."""
    log, uri = CutoverLog(state), parse_uri(move.name)
    previous, had = switcher.keep(uri), move.kept
    if previous is not None and had is not None and collection_of(previous) == collection_of(had):
        previous = seen_through(previous, had)
    number = log.begin(
        collection_of(move.name),
        previous,
        goal,
        canonical_place(goal),
        kept.number if kept else None,
    )
    if had is None or collection_of(had) != collection_of(goal):
        switcher.switch(uri, parse_uri(goal))
        _check_arrived(switcher, move.name, collection_of(goal))
    log.finish(number)
    after = _view_through(move.name, goal, move.verification)
    return move.model_copy(update={"after": after, "kept": previous})


def roll_back(
    name: str, state: sqlite3.Connection, options: RollbackOptions | None = None, **given: Any
) -> Move:
    """Lead readers of ``name`` back to what they had before the last cutover.

    Nothing is asked of the old collection but that it is there: going back must always be
    possible. Done again, it undoes the cutover before that one.

    Raises
    ------
    MismatchError
        If no recorded cutover led to what readers have now, or there was nothing before it.
    InputError
        If the old collection is gone.
    LockedError
        If another run writes the old collection.
    UsageError, WriteError, UnreachableError
    """
    dry_run = RollbackOptions.given(options, given).dry_run
    name = without_vector(name)
    switcher, uri = require_switcher(name), parse_uri(name)
    log, verifications = CutoverLog(state), VerificationLog(state)
    entry = current_entry(log, name)
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
    goal = entry.previous
    moves = collection_of(entry.target) != collection_of(goal)
    if moves:
        switcher.check(uri, parse_uri(goal))
    kept = None if entry.verification is None else verifications.get(entry.verification)
    record = kept.verification if kept else None
    before = _view_through(name, entry.target, record)
    after = view_before(goal, record.source_encoder if record else None)
    if not dry_run:
        if moves:
            with hold(goal):
                switcher.switch(uri, parse_uri(goal))
            _check_arrived(switcher, name, collection_of(goal))
        log.undo(entry.id)
        _note_left(state, entry.target)
    return Move(
        name=name, before=before, after=after, kept=entry.target, done=not dry_run,
        verification=record, notes=_notes(before, after),
        writers=_writers(switcher, before, after),
    )  # fmt: skip


def _note_left(state: sqlite3.Connection, target: str) -> None:
    """Have verifications know that applications' points there are nobody's any more."""
    path = ledger_path(file_of(state), target, canonical_place)
    if path.exists():
        with open_ledger(path) as ledger:
            ledger.note(led=False)


def _switcher(name: str, target: str) -> Switcher:
    if not same_store(name, target):
        raise UsageError(
            f"{name} and {target} are of two stores",
            remedy="Readers of one store cannot be led into another: name a collection of theirs, "
            "or point them at the new store yourself.",
        )
    return require_switcher(name)


def _view_through(name: str, target: str, record: Verification | None) -> ReaderView:
    """Open the readers' name itself, and say which collection that is."""
    seen = view_of(seen_through(name, target), record.target_encoder if record else None)
    return seen.model_copy(update={"collection": target})


def _notes(before: ReaderView | None, after: ReaderView) -> tuple[str, ...]:
    if before is None:
        return ()
    if share_points(before, after):
        return (
            f"both vectors are on the same points: readers get {_named(after)} once they ask for "
            "it, and nothing is moved for them",
        )
    if before.encoder is not None and before.encoder == after.encoder:
        return ()
    if before.dimension is None:
        return ("what readers have has several vectors, and which one they ask for is not known",)
    if before.dimension == after.dimension:
        return (
            "both have the same dimension: queries of the wrong encoder are answered without an "
            "error, and wrongly",
        )
    return ("queries of the wrong encoder are refused, as the dimensions differ",)


def _named(view: ReaderView) -> str:
    return f"the vector {view.vector!r}" if view.vector else "the vector without a name"


def _writers(switcher: Switcher, before: ReaderView | None, after: ReaderView) -> tuple[str, ...]:
    """Say what writers have to change together with readers."""
    made = f"made by {after.encoder or 'the encoder of that collection'}"
    shape = f"vectors of {after.dimension} dimensions, {made}"
    if before is not None and share_points(before, after):
        said = (
            f"give each point {_named(after)} ({shape}), with {_named(before)} beside it or "
            f"without: what is written with {_named(before)} alone is not found by {_named(after)}"
            + (" until the next sync" if parse_uri(after.collection).is_in_place else ""),
        )
    else:
        name = f", under the name {after.vector!r}" if after.vector else ""
        said = (f"write {shape}{name}",)
    return said + switcher.writing_notes(parse_uri(after.collection))


def _source_of(target: str, known: list[str]) -> str:
    if not known:
        raise MismatchError(
            f"it is not known what {target} was migrated from",
            remedy="Verify it first: vecmigrate verify SOURCE TARGET --translator FILE.",
        )
    return known[0]


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
    if current is None or collection_of(current) != arrived:
        raise WriteError(
            f"readers of {name} get {current or 'nothing'} instead of {arrived}",
            remedy="Somebody else moves them too: find out who, then run this again.",
        )


class ReaderView(BaseModel, frozen=True):
    """A collection as its readers meet it.

    Attributes
    ----------
    vector
        The name by which they ask for its vectors; None if they need none.
    count, dimension, metric, index_type
        None if the collection has several vectors and nobody recorded which one they ask for.
    encoder
        Whose query vectors it answers; None if nobody recorded that.
    """

    collection: str
    vector: str | None = None
    count: int | None = None
    dimension: int | None = None
    metric: Metric | None = None
    index_type: str | None = None
    encoder: EncoderIdentity | None = None


def view_of(collection: str, encoder: EncoderIdentity | None = None) -> ReaderView:
    """Open a collection and look.

    Parameters
    ----------
    encoder
        What a verification says of it, if the collection itself does not.

    Raises
    ------
    InputError, UsageError, UnreachableError
        From the store.
    """
    with open_source(collection) as source:
        found = source.describe()
    recorded = found.provenance.encoder if found.provenance else None
    return ReaderView(
        collection=collection,
        vector=found.vector,
        count=found.count,
        dimension=found.dimension,
        metric=found.metric,
        index_type=found.index_type,
        encoder=recorded or encoder,
    )


def view_before(collection: str, encoder: EncoderIdentity | None = None) -> ReaderView:
    """Look as :func:`view_of`, also if the collection has several vectors and none is named."""
    try:
        return view_of(collection, encoder)
    except VectorNotFoundError:
        if VECTOR in parse_uri(collection).options:
            raise
    return ReaderView(collection=collection, encoder=encoder)


def share_points(one: ReaderView, other: ReaderView) -> bool:
    """Tell whether two views are of two vectors of one collection."""
    same = collection_of(one.collection) == collection_of(other.collection)
    return same and one.vector != other.vector
