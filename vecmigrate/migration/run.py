"""A migration from its call to its result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from vecmigrate.connector.source import Source
from vecmigrate.encoders import Meter
from vecmigrate.migration.move import MigrationResult, prepare
from vecmigrate.migration.options import MigrateOptions
from vecmigrate.runtime.options import Callbacks
from vecmigrate.state.files import note_files
from vecmigrate.translators import Translator


def migrate(
    source: str | Source,
    target: str,
    translator: Translator | str | Path | None = None,
    options: MigrateOptions | None = None,
    *,
    state: str | Path | None = None,
    meter: Meter | None = None,
    stop: Callable[[], bool] = lambda: False,
    announce: Callable[[str], None] = lambda line: None,
    progress: Callable[[int], None] = lambda count: None,
    **given: Any,
) -> MigrationResult:
    """Write ``source``'s points to a new collection at ``target`` and verify it.

    Their vectors are translated, or, if there is an ``encoder``, made anew from their texts.

    Reading and writing run in a thread each and translating in one a processor (all but writing may
    run on another engine), a few batches apart; memory is bounded by the batch size and their
    number, beyond what the target's store itself must hold.

    Parameters
    ----------
    source
        A URI, or an open source (left open).
    target
        A URI where nothing is yet.
    translator
        A fitted one, or a file that :func:`save_translator` wrote; None with an ``encoder``.
    options, given
        :class:`MigrateOptions`, or fields of it by name. ``keep_anchors`` needs a translator file.
        ``engine`` may be an open one.
    state
        The state file. With it the migration can be continued: killed at any instant, the same call
        goes on from the last durable batch, with the same outcome, and embeds again at most what
        was being embedded. Needs a translator file, or an encoder.
    meter
        Account of the texts that are embedded; default: one of its own, by the options.
    stop, announce, progress
        See :class:`Callbacks`.

    Raises
    ------
    LockedError
        If another run is doing the same.
    TerminatedError
        If ``stop`` said so.
    MismatchError
        If the translator was fitted for another dimension or encoder; nothing is written.
    BudgetSpentError
        If the budget does not reach for all texts; the same call with a larger one continues.
    TargetExistsError
        If the target is there.
    RefusedError
        If the target's store refuses a point; names it.
    BadVectorError
        If a vector is not usable; nothing is published.
    VerificationError
        If the new collection's ids are not the source's, or the source changed meanwhile.
    InputError, UsageError, UnreachableError, WriteError
        From the stores.
    """
    asked = MigrateOptions.given(options, given)
    where = None if state is None else Path(state)
    callbacks = Callbacks(stop, announce, progress)
    with prepare(source, target, translator, asked, where, callbacks, meter) as move:
        if where is not None:
            uri, letters = move.description.uri, asked.dead_letters
            note_files(where, uri, translator, asked.keep_anchors, letters, *asked.reuse)
        move.stream()
        return move.publish()
