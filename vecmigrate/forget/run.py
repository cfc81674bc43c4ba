"""Forgets points: in files first, then at targets, in ledgers, and in the state file."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vecmigrate.anchors import AnchorSet, load_anchors
from vecmigrate.errors import InputError, MismatchError, UsageError
from vecmigrate.forget.files import Files
from vecmigrate.forget.mentions import Mentions
from vecmigrate.forget.options import ForgetOptions, Left, Receipt, Removed
from vecmigrate.forget.records import Records
from vecmigrate.forget.scope import Scope, had_before, scope_of, spelling
from vecmigrate.forget.targets import TargetPoints, erase_known, held, ids_there, still_there
from vecmigrate.forget.translators import built_on
from vecmigrate.points.batch import IdArray, PointId, id_array
from vecmigrate.points.ids import name_some
from vecmigrate.report.file import REPORT_JSON
from vecmigrate.state import open_state
from vecmigrate.state.files import FileLog


def forget(
    ids: Iterable[PointId],
    state: str | Path,
    options: ForgetOptions | None = None,
    **given: Any,
) -> Receipt:
    """Remove points from targets, ledgers, files and records, as far as these can be reached.

    Nothing is deleted at a source. The same call completes what a killed one began, and finds
    nothing where all is done.

    Parameters
    ----------
    ids
        The points.
    state
        The state file.
    options, given
        :class:`ForgetOptions`, or fields of it by name.

    Raises
    ------
    MismatchError
        If the source still has some of the points, and ``still_at_source`` is False, or a target
        is none of vecmigrate's; nothing was changed.
    UsageError
        If no id is given, or it cannot be told which collections are meant.
    LockedError
        If another run is at work on one of these.
    InputError, UnreachableError, VerificationError, WriteError
        From the stores and the disk; the same call completes what was begun.
    """
    asked, state = ForgetOptions.given(options, given), Path(state)
    each = id_array(dict.fromkeys(ids))
    if not len(each):
        raise UsageError("no id was given", remedy="Name the points to be forgotten.")
    with ExitStack() as stack:
        records = stack.enter_context(closing(open_state(state)))
        scope = scope_of(asked.targets, records)
        if not (scope.moves or asked.folders):
            there = f": {name_some(scope.elsewhere)} are from another" if scope.elsewhere else ""
            raise UsageError(
                f"the state file {state} knows no target as named from this folder{there}",
                remedy="Run it in the folder of the migration, or name a target with --target, "
                "folders with --in, or the state file with --state.",
            )
        for path in asked.folders:
            if not path.exists():
                raise InputError(f"{path} is not there", remedy="Name another one with --in.")
        for move in scope.moves:
            held(stack, state, move, look=asked.dry_run)
        return _Forgetting(each, state, records, scope, asked).go()


class _Forgetting:
    """One run, with the locks held."""

    def __init__(
        self,
        ids: IdArray,
        state: Path,
        records: sqlite3.Connection,
        scope: Scope,
        asked: ForgetOptions,
    ) -> None:
        self._ids, self._state, self._scope, self._asked = ids, state, scope, asked
        self._connection = records
        self._records = Records(state, records)
        self._mentions = Mentions(ids.tolist())
        self._removed: list[Removed] = []
        self._left: list[Left] = []
        self._found: set[PointId] = set()

    def go(self) -> Receipt:
        still = self._check_sources()
        searched = self._clean_files()
        targets = self._clean_targets()
        for source in self._scope.sources:
            self._erase_known_of(source, still)
        self._clean_records()
        self._look_at_earlier()
        for target in targets:
            self._left += target.remnants()
        return Receipt(
            ids=tuple(self._ids.tolist()),
            found_nowhere=tuple(i for i in self._ids.tolist() if i not in self._found),
            still_at_source=tuple(still.tolist()),
            targets=tuple(move.target for move in self._scope.moves),
            searched=searched,
            removed=tuple(self._removed),
            left=tuple(self._left),
            dry_run=self._asked.dry_run,
            finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def _check_sources(self) -> IdArray:
        """Return the ids that a source has.

        Raises
        ------
        MismatchError
            If there are any, and it was not said that they are to be forgotten all the same.
        """
        targets = [move.target for move in self._scope.moves]
        still, left = still_there(
            self._scope.sources, targets, self._ids, all_the_same=self._asked.still_at_source
        )
        self._left += left
        if len(still) and not (self._asked.still_at_source or self._asked.dry_run):
            raise MismatchError(
                f"{name_some(self._scope.sources)} still has {len(still):,} of these points, and "
                f"sync would bring them back: {name_some(still.tolist())}",
                remedy="Delete them there first; or add --still-at-source to remove them all the "
                "same.",
            )
        found = [
            Left(place=source, remedy="It has some of the points: delete them there.")
            for source in self._scope.sources
        ]
        self._left += found if len(still) else []
        return still

    def _clean_files(self) -> tuple[str, ...]:
        files = Files(
            self._ids, self._scope, self._mentions, self._bring_along, look=self._asked.dry_run
        )
        known = self._known_files()
        for path in known:
            files.search(path, is_named=True)
        folders = self._asked.folders or [Path()]
        for path in folders:
            files.search(path, is_named=bool(self._asked.folders) and path.is_file())
        self._removed += files.removed
        self._left += files.left
        self._found |= files.found
        self._left += built_on(files.anchors, [*known, *folders])
        return tuple(dict.fromkeys(str(path) for path in (*known, *folders)))

    def _known_files(self) -> list[Path]:
        """Return where the runs of these collections keep or found points."""
        letters = self._state.parent / "dead-letters"
        paths = [letters / f"{key}.jsonl" for key in sorted(self._scope.keys)]
        log = FileLog(self._connection)
        for source in self._scope.sources:
            for path in log.of(source):
                # A translator lies in the folder of the dry run that fitted it.
                of_dry_run = path.with_name(REPORT_JSON).exists()
                paths += [path.parent] if of_dry_run else [path]
        return [path for path in dict.fromkeys(paths) if path.exists()]

    def _bring_along(self, path: Path, new: Path, before: AnchorSet | None) -> None:
        digests = {_digest(path): _digest(new)}
        if before is not None:
            digests[before.sha256()] = load_anchors(new).sha256()
        self._records.bring_along(digests)

    def _clean_targets(self) -> list[TargetPoints]:
        cleaned = []
        for move in self._scope.moves:
            points = TargetPoints(move, self._state, self._ids, look=self._asked.dry_run)
            points.remove()
            self._removed += points.removed
            self._left += points.left
            self._found |= points.found
            cleaned.append(points)
        return cleaned

    def _erase_known_of(self, source: str, still: IdArray) -> None:
        """Remove what is known of points that a source does not have."""
        has = set(still.tolist())
        gone = id_array(i for i in self._ids.tolist() if i not in has)
        self._removed += erase_known(self._state, source, gone, look=self._asked.dry_run)

    def _clean_records(self) -> None:
        ids = frozenset(self._ids.tolist())
        named = self._records.scrub(ids, self._mentions, self._scope, look=self._asked.dry_run)
        if named:
            what = Removed(place=str(self._state), what="records that named one", points=named)
            self._removed.append(what)
        for target in self._scope.elsewhere:
            self._left.append(
                Left(
                    place=f"{target}, whose migration was begun in another folder",
                    remedy="Run the same command there, with --state.",
                )
            )

    def _look_at_earlier(self) -> None:
        """Name collections that readers had before, and that have some of the points."""
        checked = set(map(spelling, self._scope.sources))
        for uri in dict.fromkeys(had_before(self._scope, self._connection)):
            if spelling(uri) in checked:
                continue
            try:
                there = ids_there(uri, self._ids)
            except (InputError, UsageError):
                continue
            self._erase_known_of(uri, there)
            if len(there):
                remedy = "Readers had it before: delete it with `vecmigrate drop-source`."
                self._left.append(Left(place=uri, remedy=remedy))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
