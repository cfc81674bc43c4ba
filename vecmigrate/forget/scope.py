"""Which collections and records are meant by "these points": an id is one point in each source."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vecmigrate.connector.addresses import canonical_place, collection_of, followed_uri
from vecmigrate.connector.registry import open_source
from vecmigrate.cutover.records import CutoverLog
from vecmigrate.errors import InputError, MismatchError, UsageError, VecmigrateError
from vecmigrate.points.ids import name_some
from vecmigrate.state.migrations import MigrationRecord, MigrationStatus, MigrationTable


@dataclass(frozen=True, slots=True)
class Move:
    """A target and where it is from.

    Attributes
    ----------
    target
        A URI that leads to the collection itself.
    source
        Where it was written from.
    run
        What wrote it; see :meth:`Provenance.run`.
    key, job
        The migration, if the state file knows it.
    """

    target: str
    source: str
    run: str
    key: str | None = None
    job: MigrationRecord | None = None

    @property
    def is_unfinished(self) -> bool:
        """True if the migration has not published its target."""
        return self.job is not None and self.job.status is not MigrationStatus.DONE


@dataclass(frozen=True, slots=True)
class Scope:
    """What is meant.

    Attributes
    ----------
    moves
        Those whose points are meant.
    others
        Those that the state file knows beside them.
    elsewhere
        Targets that are named from another directory than this one.
    """

    moves: tuple[Move, ...]
    others: tuple[Move, ...]
    elsewhere: tuple[str, ...]

    @property
    def sources(self) -> list[str]:
        """The sources of the moves, each once."""
        return list(dict.fromkeys(move.source for move in self.moves))

    @property
    def keys(self) -> frozenset[str]:
        """The keys of the migrations that are meant."""
        return frozenset(move.key for move in self.moves if move.key)

    @property
    def runs(self) -> frozenset[str]:
        """The runs that wrote the targets."""
        return frozenset(move.run for move in self.moves)

    @property
    def other_runs(self) -> frozenset[str]:
        """The runs that wrote the other targets."""
        return frozenset(move.run for move in self.others)

    def is_of_another_source(self, source: str) -> bool:
        """Tell whether what was made of a collection has other points under the same ids."""
        return bool(self.moves) and spelling(source) not in map(spelling, self.sources)


def spelling(uri: str) -> str:
    """Return a collection's one spelling, the URI itself if none can be told."""
    try:
        return collection_of(uri)
    except VecmigrateError:
        return uri


def scope_of(targets: Sequence[str], records: sqlite3.Connection) -> Scope:
    """Find the moves to these targets, or to all that a state file knows.

    Raises
    ------
    UsageError
        If no target is named and the state file knows several sources.
    MismatchError
        If a target does not say that vecmigrate wrote it, or is the source of others alone.
    InputError, UnreachableError
        If a target that is named is not there, or does not answer.
    """
    known, elsewhere = _known(records)
    if not targets:
        # A source that another move made has the same points under the same ids.
        made = {spelling(move.target) for move in known}
        sources = dict.fromkeys(spelling(move.source) for move in known)
        sources = {source: None for source in sources if source not in made}
        if len(sources) > 1:
            raise UsageError(
                f"the state file knows targets of {len(sources)} sources, whose ids are of other "
                f"points each: {name_some(sources)}",
                remedy=f"Name the targets with --target; there are: "
                f"{name_some(move.target for move in known)}.",
            )
        return Scope(tuple(known), (), elsewhere)
    chosen = [_named(target, known) for target in targets]
    places = {canonical_place(move.target) for move in chosen}
    others = [move for move in known if canonical_place(move.target) not in places]
    return Scope(tuple(chosen), tuple(others), elsewhere)


def _known(records: sqlite3.Connection) -> tuple[list[Move], tuple[str, ...]]:
    known, elsewhere = [], []
    for key, job in MigrationTable(records).all():
        try:
            is_from_here = job.key == key
        except VecmigrateError:
            # Its connector is not installed.
            is_from_here = False
        if is_from_here:
            known.append(Move(job.target, job.source, job.provenance.run(), key, job))
        else:
            elsewhere.append(job.target)
    return known, tuple(elsewhere)


def _named(target: str, known: list[Move]) -> Move:
    place = followed_uri(target)
    for move in known:
        if canonical_place(move.target) == canonical_place(place):
            return move
    if any(spelling(move.source) == spelling(place) for move in known):
        raise MismatchError(
            f"{target} is a source, and vecmigrate deletes nothing there",
            remedy="Delete the points there yourself, then forget them at its targets.",
        )
    with open_source(place) as opened:
        made = opened.describe().provenance
    if made is None:
        raise MismatchError(
            f"{target} was not written by vecmigrate migrate",
            remedy="Delete points of other collections yourself.",
        )
    return Move(place, made.source, made.run())


def had_before(scope: Scope, records: sqlite3.Connection) -> Iterator[str]:
    """Yield collections that readers had before a cutover led them to one of the targets."""
    log = CutoverLog(records)
    for move in scope.moves:
        for entry in log.leading_to(canonical_place(move.target)):
            if entry.previous is not None and entry.dropped_at is None:
                yield entry.previous


def readable(uri: str) -> bool:
    """Tell whether a collection is there and can be read.

    Raises
    ------
    UnreachableError
    """
    try:
        with open_source(uri):
            return True
    except InputError:
        return False
