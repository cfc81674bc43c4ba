"""The command line. Each command is a module; ``app`` puts them together."""

from vecmigrate.cli.app import app, main

__all__ = ["app", "main"]
