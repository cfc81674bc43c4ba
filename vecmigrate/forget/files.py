"""Files that hold points: found by what they are, and written anew without some of these."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from vecmigrate.anchors import AnchorSet, load_anchors
from vecmigrate.anchors.draw import SAMPLE, without_drawn
from vecmigrate.anchors.file import write_anchors
from vecmigrate.dry_run.sample import ANCHORS_FILE
from vecmigrate.encoders.metered import without_bought
from vecmigrate.errors import InputError
from vecmigrate.forget.logs import blank_mentions, is_log
from vecmigrate.forget.mentions import Mentions
from vecmigrate.forget.options import Left, Removed
from vecmigrate.forget.scope import Scope
from vecmigrate.io.atomic import PARTIAL, Rewriting
from vecmigrate.io.vector_table import read_header
from vecmigrate.migration.bought import erase_bought, is_bought_file
from vecmigrate.migration.dead_letters import without_letters
from vecmigrate.points.batch import IdArray, PointId, Vectors
from vecmigrate.points.ids import lookup_of
from vecmigrate.report.file import REPORT_JSON, load_report, write_report
from vecmigrate.report.forgetting import without_documents
from vecmigrate.report.html import REPORT_HTML, write_report_page

_PASSED_OVER = {".git", ".venv", "node_modules", "__pycache__"}
_TABLES = (".parquet", ".pq")
_LINES = (".jsonl", ".log", ".json", ".txt")
_FIRST_LINE = 1 << 16
_OURS = b'"vecmigrate_version": '


@dataclass(slots=True)
class Files:
    """Removes points from files.

    Attributes
    ----------
    bring_along
        Notes a file's new content where its old one was noted.
    look
        Count alone.
    removed, left, found
        By place; and which of the points were there.
    anchors
        ``(n, d)`` old vectors of anchors that were removed, of each file.
    """

    ids: IdArray
    scope: Scope
    mentions: Mentions
    bring_along: Callable[[Path, Path, AnchorSet | None], object]
    look: bool
    removed: list[Removed] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    found: set[PointId] = field(default_factory=set)
    anchors: list[Vectors] = field(default_factory=list)
    _done: set[Path] = field(default_factory=set)

    def search(self, given: Path, *, is_named: bool) -> None:
        """Remove points from a file, or from all files in a folder that hold points.

        Parameters
        ----------
        is_named
            A person, or a run of these collections, named it: what was made of another source
            is none the less theirs.
        """
        for path in _files(given):
            if path.resolve() not in self._done:
                self._done.add(path.resolve())
                self._clean(path, is_named=is_named)

    def _clean(self, path: Path, *, is_named: bool) -> None:
        try:
            if path.name.startswith(".") and path.suffix == PARTIAL:
                remedy = "A killed run left it: remove it."
                self.left.append(Left(place=str(path), remedy=remedy))
            elif path.name == REPORT_HTML and not path.with_name(REPORT_JSON).exists():
                remedy = "What it is made of is not beside it: remove it, or put it there."
                self.left.append(Left(place=str(path), remedy=remedy))
            elif path.name == REPORT_JSON:
                if _OURS in _begins(path, len(_OURS) + 1024):
                    self._clean_report(path, is_named=is_named)
            elif is_bought_file(path):
                self._clean_bought(path)
            elif path.suffix in _TABLES or (is_named and _begins(path, 4) == b"PAR1"):
                self._clean_table(path, is_named=is_named)
            elif path.suffix in _LINES or is_named:
                self._clean_lines(path, is_named=is_named)
        except InputError as error:
            self.left.append(Left(place=f"{path}: {error.message}", remedy=error.remedy))

    def _clean_table(self, path: Path, *, is_named: bool) -> None:
        header = read_header(path)
        if header is None:
            return
        if {"encoder", "role"} <= header.keys():
            source = _source_beside(path)
            rewriting = without_bought(path, self.ids)
            if rewriting and (source is None or self._is_meant(path, source, is_named=is_named)):
                self._carry_out(path, "bought vectors", rewriting)
        elif {"request", "population"} <= header.keys():
            if self._is_meant(path, header["request"]["source"], is_named=is_named):
                self._carry_out(path, "drawn anchors", without_drawn(path, self.ids))
        elif {"population", "strategy", "target_encoder"} <= header.keys():
            self._clean_anchors(path, is_named=is_named)

    def _clean_bought(self, path: Path) -> None:
        held = erase_bought(path, self.ids, look=self.look)
        if held:
            self.found |= held
            self.removed.append(Removed(place=str(path), what="bought vectors", points=len(held)))

    def _clean_anchors(self, path: Path, *, is_named: bool) -> None:
        anchors = load_anchors(path)
        gone = lookup_of(self.ids).rows(anchors.ids) >= 0
        if not gone.any() or not self._is_meant(path, anchors.card.source, is_named=is_named):
            return
        left = anchors.without(self.ids)
        self.anchors.append(anchors.source_vectors[gone])
        rewriting = Rewriting(
            frozenset(anchors.ids[gone].tolist()), lambda to: write_anchors(left, to)
        )
        self._carry_out(path, "anchors", rewriting, anchors)

    def _clean_report(self, path: Path, *, is_named: bool) -> None:
        report = load_report(path)
        left, held = without_documents(report, frozenset(self.ids.tolist()))
        if not held or not self._is_meant(path, report.source.uri, is_named=is_named):
            return
        page = path.with_name(REPORT_HTML)
        if page.exists():
            # Before the facts that it is made of: after a kill these still tell what to remove.
            self._carry_out(page, "page", Rewriting(held, partial(write_report_page, left)))
        self._carry_out(path, "report", Rewriting(held, partial(write_report, left)))

    def _clean_lines(self, path: Path, *, is_named: bool) -> None:
        first = _begins(path, _FIRST_LINE).partition(b"\n")[0]
        if is_log(first):
            lines = blank_mentions(path, self.mentions, look=self.look)
            if lines:
                self.removed.append(Removed(place=str(path), what="lines of a log", points=lines))
        elif first.startswith(b'{"run": ') and b'"reason": ' in first:
            self._clean_letters(path, is_named=is_named)

    def _clean_letters(self, path: Path, *, is_named: bool) -> None:
        ids, ours, others = set(self.ids.tolist()), self.scope.runs, self.scope.other_runs
        strangers: set[PointId] = set()

        def gone(run: str, point: PointId) -> bool:
            if point not in ids or run in others:
                return False
            if run in ours or is_named:
                return True
            strangers.add(point)
            return False

        self._carry_out(path, "dead letters", without_letters(path, gone))
        if strangers:
            remedy = f"If they are the same points, add --in '{path}'."
            what = f"{path}, with dead letters of a run that is not known, under these ids"
            self.left.append(Left(place=what, remedy=remedy))

    def _is_meant(self, path: Path, source: str, *, is_named: bool) -> bool:
        """Tell whether what was made of a source is to be cleaned; if not, name it."""
        if is_named or not self.scope.is_of_another_source(source):
            return True
        self.left.append(
            Left(
                place=f"{path}, made of {source}, which has other points under these ids",
                remedy=f"If they are the same points, add --in '{path}'.",
            )
        )
        return False

    def _carry_out(
        self,
        path: Path,
        what: str,
        rewriting: Rewriting | None,
        anchors: AnchorSet | None = None,
    ) -> None:
        if rewriting is None:
            return
        self.found |= rewriting.removed
        self.removed.append(Removed(place=str(path), what=what, points=len(rewriting.removed)))
        if not self.look:
            rewriting.carry_out(path, lambda new: self.bring_along(path, new, anchors))


def _source_beside(path: Path) -> str | None:
    """Return the source whose texts a file of bought vectors is of, as what lies beside it says."""
    drawn = read_header(path.with_name(SAMPLE))
    if drawn is not None:
        return str(drawn["request"]["source"])
    anchors = read_header(path.parent.with_name(ANCHORS_FILE))
    return None if anchors is None else str(anchors["source"])


def _begins(path: Path, size: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError:
        return b""


def _files(given: Path) -> Iterator[Path]:
    """Yield a file, or all files of a folder, in order; links to folders are not followed."""
    if not given.is_dir():
        yield from [given] if given.is_file() else []
        return
    for folder, inside, names in os.walk(given):
        inside[:] = sorted(name for name in inside if name not in _PASSED_OVER)
        yield from (path for path in _paths(folder, names) if path.is_file())


def _paths(folder: str, names: Iterable[str]) -> list[Path]:
    return [Path(folder, name) for name in sorted(names)]
