"""The ``vecmigrate`` command."""

from __future__ import annotations

import io
import sys
from importlib import import_module
from typing import Annotated, Any

import typer

from vecmigrate.cli.observing import ObservedTyper, before_commands

app = ObservedTyper(
    name="vecmigrate",
    help="Move a vector index into a new encoder's space without re-embedding the corpus.",
    epilog="The usual order: **inspect**, **dry-run**, **anchors**, **fit**, **migrate**, "
    "**verify**, **evaluate**, **cutover**. "
    "`vecmigrate COMMAND --help` shows examples. Exit codes: docs/reference/exit-codes.md.",
    rich_markup_mode="markdown",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

COMMANDS = [
    *("inspect", "dry-run", "anchors", "fit", "translate", "migrate", "verify", "evaluate"),
    *("compare", "cutover", "rollback", "drop-source", "sync", "forget", "status", "search"),
    *("prewarm", "plan", "run", "history"),
]
"""In the order of the help; each is ``run`` of the module of its name."""

for name in COMMANDS:
    module = import_module(f"vecmigrate.cli.{name.replace('-', '_')}")
    app.command(name, epilog=module.EXAMPLES)(module.run)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"vecmigrate {version('vecmigrate')}")
        raise typer.Exit


@app.callback()
@before_commands
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    pass


class _Stdout(io.FileIO):
    """Standard output; if nobody reads it any more, as behind ``head``, what comes is let go."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            return len(data)


def main() -> None:
    """Run the command line."""
    if sys.stdout is not None:
        raw = _Stdout(sys.stdout.fileno(), "w", closefd=False)
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(raw),
            encoding=sys.stdout.encoding,
            errors=sys.stdout.errors,
            line_buffering=raw.isatty(),
        )
    app()
