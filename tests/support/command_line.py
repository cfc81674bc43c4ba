"""The command line, without running anything."""

from __future__ import annotations

from typing import Any

import typer

from vecmigrate.cli import app


def taken(arguments: list[str]) -> None:
    """Parse as the command line does, without running anything."""
    group: Any = typer.main.get_command(app)
    name, command, rest = group.resolve_command(
        group.make_context("vecmigrate", [*arguments]), arguments
    )
    command.make_context(name, rest)
