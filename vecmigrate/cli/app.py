"""The ``vecmigrate`` command."""

from __future__ import annotations

from typing import Annotated

import typer

from vecmigrate.cli import (
    anchors,
    compare,
    cutover,
    drop_source,
    dry_run,
    evaluate,
    fit,
    history,
    inspect,
    migrate,
    plan,
    rollback,
    run,
    status,
    sync,
    translate,
    verify,
)
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

for command in (
    inspect,
    dry_run,
    anchors,
    fit,
    translate,
    migrate,
    verify,
    evaluate,
    compare,
    cutover,
    rollback,
    drop_source,
    sync,
    status,
    plan,
    run,
    history,
):
    name = command.__name__.rpartition(".")[2].replace("_", "-")
    app.command(name, epilog=command.EXAMPLES)(command.run)


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


def main() -> None:
    """Run the command line."""
    app()
