"""What an earlier run left unfinished, and what it costs to begin it anew."""

from __future__ import annotations

from collections.abc import Callable

from vecmigrate.connector import TargetExistsError, VecmigrateError
from vecmigrate_qdrant.marks import Mark


def beginning_anew(
    where: str,
    mark: Mark,
    run: str,
    work: str | None,
    *,
    restart: bool,
    count: Callable[[], int],
) -> tuple[str, ...]:
    """Return what to tell before an unfinished target, which nobody writes, is begun anew.

    Without ``restart`` that may be done by the same run, or by one that does the same work: it
    comes to the same points, and nothing is lost but time.

    Parameters
    ----------
    run, work
        What this run's own mark would say.
    count
        Counts the points that are there.

    Raises
    ------
    TargetExistsError
        If it may not; says what a restart costs.
    """
    if restart or mark.run == run:
        return ()
    try:
        there = f"{count():,} points"
    except VecmigrateError:
        there = "the points"  # A collection's own limits may forbid to count.
    if work is None or mark.work != work:
        raise TargetExistsError(
            f"{where} is there, unfinished: another run, which moved other things or by other "
            "means, was stopped while it wrote it",
            remedy=f"Run that one again to complete it, or start over with --restart, which throws "
            f"away {there} that are there.",
        )
    return (
        f"{there} are at the target already, left unfinished by a run that did the same; they are "
        "written again, since what knew how far it came is gone",
    )
