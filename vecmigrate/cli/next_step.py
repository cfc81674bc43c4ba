"""What a command's last line says to do next, where several commands say the same."""

from __future__ import annotations

from pathlib import Path

from vecmigrate.cli.options import state_again
from vecmigrate.connector.registry import find_switcher


def give_to_readers(target: str, state: Path | None = None) -> str:
    """Return how readers get a verified collection, which depends on its store."""
    if find_switcher(target) is None:
        return f"Next: point your readers at {target}; its store has no name that could be moved"
    again = state_again(state)
    return f"Next: vecmigrate cutover NAME --to '{target}'{again}, NAME being what readers open"
