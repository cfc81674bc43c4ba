"""How errors name points and causes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vecmigrate.batches import IdArray, PointId

_NAMED_AT_MOST = 10
_LONGEST_REASON = 300


def name_some(names: Iterable[object]) -> str:
    """List ids or names to a user: the first ten, and how many more there are."""
    listed = list(names)
    more = len(listed) - _NAMED_AT_MOST
    return ", ".join(map(str, listed[:_NAMED_AT_MOST])) + (f" and {more} more" if more > 0 else "")


def point_name(ids: Sequence[PointId] | IdArray | None, row: int) -> str:
    """Name a point to a user: by its id, or by its position where ids are not known."""
    return f"text {row}" if ids is None else f"id {ids[row]}"


def reason_of(cause: BaseException | str) -> str:
    """Shorten what another library or server said to one line without its full stop."""
    said = " ".join(str(cause).split()) or type(cause).__name__
    if len(said) > _LONGEST_REASON:
        said = said[:_LONGEST_REASON] + "..."
    return said.rstrip(".") if not said.endswith("...") else said
