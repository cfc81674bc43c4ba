"""A cutover without a gap: syncs before the switch, and one after it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from vecmigrate.connector.addresses import canonical_place, followed_place, followed_uri
from vecmigrate.connector.registry import hold, open_source
from vecmigrate.cutover.move import CaughtUp, Move, cut_over
from vecmigrate.cutover.options import CutoverOptions
from vecmigrate.errors import VecmigrateError
from vecmigrate.runtime.settling import SETTLE, Settling
from vecmigrate.sync.options import SyncResult


def cut_over_in_step(
    name: str,
    target: str,
    state: sqlite3.Connection,
    bring: Callable[[str, bool], SyncResult],
    options: CutoverOptions | None = None,
    *,
    settle: float = SETTLE,
    announce: Callable[[str], None] = lambda line: None,
    **given: Any,
) -> Move:
    """Lead readers of ``name`` to ``target``, and bring what the source's writers change meanwhile.

    Syncs bring what changed until one finds few changes. Then readers are led over, and one more
    sync brings what changed since the last one began.

    Parameters
    ----------
    name, target, state, options, given
        As of :func:`cut_over`.
    bring
        Syncs the source, of which it gets the URI, to ``target``; its second argument is True if
        readers have the target already, so that nothing there is to be overwritten.
    settle
        The share of the points up to which changes are few, as are 100 points.
    announce
        Called with a line for a person.

    Raises
    ------
    UnsettledError
        If a sync brings no fewer points than the one before; readers see what they saw.
    VecmigrateError
        As :func:`cut_over` and :func:`sync`. If the last sync fails, readers have ``target``.
    """
    asked = CutoverOptions.given(options, given)
    with ExitStack() as stack:
        stack.enter_context(open_source(target))
        if not asked.dry_run:
            # From the first sync to the last one nobody else is to come between.
            stack.enter_context(hold(target))
        return _cut_over(name, target, state, bring, asked, settle, announce)


def _cut_over(
    name: str,
    target: str,
    state: sqlite3.Connection,
    bring: Callable[[str, bool], SyncResult],
    asked: CutoverOptions,
    settle: float,
    announce: Callable[[str], None],
) -> Move:
    passes: list[SyncResult] = []
    source, place = "", ""

    def catch_up(recorded: str) -> None:
        nonlocal source, place
        # Followed before the switch, since afterwards a name of readers' leads to the target.
        source, place = followed_uri(recorded), followed_place(recorded)
        settling = Settling(source, settle, "Nothing was switched")
        while True:
            done = bring(source, False)
            passes.append(done)
            if settling.is_settled(done.wrote, done.count, max(done.seconds, 1e-9)):
                return

    move = cut_over(name, target, state, asked, catch_up=catch_up)
    if not move.done:
        return move
    switched = time.perf_counter()
    if move.kept and move.before and canonical_place(move.before.collection) == place:
        # A store may have given what readers had another place.
        source = move.kept
    try:
        last = bring(source, True)
    except VecmigrateError:
        announce(
            f"readers of {move.name} have {target}; what changed at {source} during the last "
            "seconds before the switch is not there yet: run vecmigrate sync"
        )
        raise
    brought = CaughtUp(
        passes=len(passes), brought=sum(done.wrote for done in passes), behind=last.wrote,
        seconds=time.perf_counter() - switched,
    )  # fmt: skip
    return move.model_copy(update={"caught_up": brought})
