"""What a command prints: progress for a person, one object for a machine, one line for an error."""

from __future__ import annotations

import errno
import json
import logging
import sys
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from tqdm import tqdm

from vecmigrate.cli.logs import RUNS, report_error
from vecmigrate.cli.options import state_again
from vecmigrate.connector.registry import find_switcher
from vecmigrate.errors import ExitCode, VecmigrateError
from vecmigrate.runtime.waiting import waits_told_to
from vecmigrate.telemetry.events import log_event

NOT_A_TERMINAL_WIDTH = 1_000_000
"""Columns of a table in a file or pipe, which gets every cell whole and a row a line."""


_GAP = 2
"""Spaces between the columns of a table."""


class Output:
    """A command's output; a context manager that turns errors into one line and an exit code.

    Results go to standard output, progress, warnings and errors to standard error. Progress shows
    on a terminal only.
    """

    def __init__(self, *, as_json: bool, quiet: bool) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self._bar: tqdm[Any] | None = None
        self._waits = False
        width = None if sys.stdout.isatty() else NOT_A_TERMINAL_WIDTH
        self._console = Console(highlight=False, soft_wrap=True, width=width)

    @property
    def _for_person(self) -> bool:
        return not (self.as_json or self.quiet)

    @contextmanager
    def progress(
        self,
        what: str,
        total: int | None,
        *,
        bytes_each: int = 0,
        unit: str = "vec",
        note: Callable[[], str] | None = None,
    ) -> Iterator[Callable[[int], None]]:
        """Yield a function to call with the number of units just done.

        ``note`` tells what stands beside them; default: their bytes, if a unit has any.
        """
        hidden = not self._for_person or not sys.stderr.isatty()
        with tqdm(
            total=total, desc=what, unit=unit, unit_scale=True, disable=hidden, leave=False
        ) as bar:

            def advance(count: int) -> None:
                bar.update(count)
                if note is not None:
                    bar.set_postfix_str(note(), refresh=False)
                elif bytes_each:
                    bar.set_postfix_str(f"{bar.n * bytes_each / 1e6:,.1f} MB", refresh=False)

            before, self._bar = self._bar, None if hidden else bar
            try:
                yield advance
            finally:
                self._bar = before

    def _show_wait(self, line: str | None) -> None:
        """Show in the progress line what is waited for; once and by itself if there is none."""
        if self._bar is not None:
            self._bar.set_postfix_str(line or "")
        elif line is not None and not self._waits and not self.quiet:
            typer.echo(line, err=True)
        self._waits = line is not None

    def say(self, text: str) -> None:
        """Print a line for a person."""
        if self._for_person:
            self._console.print(text, markup=False)

    def confirm(self, question: str) -> bool:
        """Ask a person at a terminal; False if there is none."""
        if not (self._for_person and sys.stdin.isatty() and sys.stdout.isatty()):
            return False
        return typer.confirm(question)

    def fits(self, columns: list[str], rows: list[list[str]]) -> bool:
        """Tell whether a table has room beside each other for whole cells."""
        widths = (max(map(cell_len, column)) for column in zip(columns, *rows, strict=True))
        return sum(width + _GAP for width in widths) - _GAP <= self._console.width

    def table(
        self,
        columns: list[str],
        rows: list[list[str]],
        title: str | None = None,
        *,
        texts: Collection[int] = (0,),
        folded: Collection[int] = (),
    ) -> None:
        """Print a table for a person; its cells are no markup.

        Parameters
        ----------
        texts
            Positions of the columns that do not hold numbers.
        folded
            Positions of the columns that go on in more lines if the terminal is too narrow.
        """
        if not self._for_person:
            return
        table = Table(
            title=title, title_justify="left", box=None, pad_edge=False, padding=(0, _GAP, 0, 0)
        )
        for position, column in enumerate(columns):
            table.add_column(
                column,
                justify="left" if position in texts else "right",
                no_wrap=position not in folded,
                overflow="fold" if position in folded else "ellipsis",
            )
        for row in rows:
            table.add_row(*map(escape, row))
        self._console.print(table)

    def facts(self, facts: Mapping[str, Any]) -> None:
        """Print names and values, one a line, for a person; None is left out."""
        width = max(map(len, facts), default=0)
        for name, value in facts.items():
            if value is not None:
                self.say(f"{name:<{width}}  {value}")

    def result(self, result: Mapping[str, Any]) -> None:
        """Print the result for a machine."""
        if self.as_json and not self.quiet:
            typer.echo(json.dumps(result, ensure_ascii=False))

    def __enter__(self) -> Self:
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.simplefilter("default")
        warnings.showwarning = self._show_warning
        self._told_of_waits = waits_told_to(self._show_wait)
        self._told_of_waits.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._told_of_waits.__exit__(None, None, None)
        self._warnings.__exit__(exc_type, exc, traceback)
        if exc is None or isinstance(exc, typer.Exit):
            return
        ending = ending_of(exc)
        report_error(exc, ending.line, ending.code)
        if ending.code != ExitCode.INTERNAL:
            self._fail(ending)

    def _fail(self, ending: Ending) -> None:
        if self.as_json:
            error = {
                "message": ending.message,
                "remedy": ending.remedy,
                "exit_code": int(ending.code),
            }
            typer.echo(json.dumps({"error": error}, ensure_ascii=False))
        typer.echo(f"error: {ending.line}", err=True)
        raise typer.Exit(int(ending.code))

    def _show_warning(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        # Libraries' warnings to programmers are not a user's concern.
        if not category.__module__.startswith("vecmigrate"):
            return
        log_event(
            RUNS,
            logging.WARNING,
            "vecmigrate.warning",
            str(message),
            {"vecmigrate.warning_type": category.__name__},
        )
        if not self.quiet:
            typer.echo(f"warning: {message}", err=True)


_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Ending:
    """A command's end.

    Attributes
    ----------
    message, remedy
        Of its error, without a full stop and with one; None if there is none.
    """

    code: int
    message: str | None = None
    remedy: str | None = None

    @property
    def line(self) -> str:
        """The error in one line."""
        return ". ".join(filter(None, (self.message, self.remedy)))


def ending_of(error: BaseException | None) -> Ending:
    """Return how a command ends that is left by this exception, or by none."""
    if isinstance(error, typer.Exit):
        return ending_of(error.__cause__) if error.__cause__ else Ending(error.exit_code)
    if error is None:
        return Ending(ExitCode.OK)
    if isinstance(error, VecmigrateError):
        return Ending(error.exit_code, error.message, error.remedy)
    if isinstance(error, KeyboardInterrupt):
        return Ending(ExitCode.INTERRUPTED, "interrupted", "Run the same command again.")
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        return Ending(ExitCode.WRITE_FAILED, f"the disk is full ({error.filename})", "Make room.")
    if isinstance(error, PermissionError) and error.filename is not None:
        message = f"{error.filename} cannot be used ({error.strerror})"
        return Ending(ExitCode.BAD_INPUT, message, "Check the permissions of it and its folders.")
    return Ending(ExitCode.INTERNAL, f"{type(error).__name__}: {error}")


def give_to_readers(target: str, state: Path | None = None) -> str:
    """Return how readers get a verified collection, which depends on its store."""
    if find_switcher(target) is None:
        return f"Next: point your readers at {target}; its store has no name that could be moved"
    again = state_again(state)
    return f"Next: vecmigrate cutover NAME --to '{target}'{again}, NAME being what readers open"
