"""Waits for a server to index what was written."""

from __future__ import annotations

import time
from dataclasses import replace

from qdrant_client import models

from vecmigrate.connector import WriteError
from vecmigrate_qdrant.access.base import Access
from vecmigrate_qdrant.marks import Mark, State, read_mark
from vecmigrate_qdrant.settings import forbids_indexing

STALLED_SECONDS = 300.0
POLL_SECONDS = 0.5


def await_index(access: Access, collection: str) -> tuple[str, ...]:
    """Wait until a collection is green, as long as it gets on; a note if it does not.

    A server that was started anew leaves a collection grey until something changes there, so that
    its settings are set to what they are.

    Raises
    ------
    WriteError
        If the server could not index it.
    """
    access.build_index()
    before: tuple[object, ...] = ()
    deadline = 0.0
    nudged = False
    while True:
        info = access.info(collection)
        if info.status == models.CollectionStatus.RED:
            raise WriteError(
                f"the server could not index {access.place}/{collection} ({info.optimizer_status})",
                remedy="See the server's log; then start over with --restart.",
            )
        if info.status == models.CollectionStatus.GREEN:
            return ()
        if (reason := forbids_indexing(info)) is not None:
            return (f"nothing is indexed: the collection's own settings forbid it ({reason})",)
        if info.status == models.CollectionStatus.GREY and not nudged:
            nudged = True
            access.update(collection, optimizers_config=models.OptimizersConfigDiff())
        now = (info.status, info.indexed_vectors_count, info.segments_count)
        if now != before:
            before, deadline = now, time.monotonic() + STALLED_SECONDS
        elif time.monotonic() > deadline:
            return (
                f"the server has indexed {info.indexed_vectors_count or 0:,} vectors and got no "
                f"further in {STALLED_SECONDS:.0f} s: the collection is complete, but slower to "
                "search until it is done",
            )
        time.sleep(POLL_SECONDS)


_NEVER = 0
"""As a threshold: no segment is ever indexed."""


def put_off_indexing(access: Access, collection: str, mark: Mark) -> Mark:
    """Switch indexing off and note in the collection's mark what to set again; return the mark.

    Nothing is done if indexing is off anyway, or Qdrant does not tell from when on it indexes.
    """
    threshold = access.info(collection).config.optimizer_config.indexing_threshold
    if access.embedded or not threshold:
        return mark
    noted = replace(mark, indexing_threshold=threshold)
    _set(access, collection, _NEVER, noted)
    return noted


def resume_indexing(access: Access, collection: str, mark: Mark) -> None:
    """Set what :func:`put_off_indexing` noted."""
    if mark.indexing_threshold is not None:
        _set(access, collection, mark.indexing_threshold, mark)


def with_own_threshold(info: models.CollectionInfo) -> models.CollectionInfo:
    """Return a collection with the threshold that :func:`put_off_indexing` noted, if it did."""
    mark = read_mark(info)
    if mark is None or mark.state is not State.WRITING or mark.indexing_threshold is None:
        return info
    threshold = {"indexing_threshold": mark.indexing_threshold}
    optimizers = info.config.optimizer_config.model_copy(update=threshold)
    config = info.config.model_copy(update={"optimizer_config": optimizers})
    return info.model_copy(update={"config": config})


def _set(access: Access, collection: str, threshold: int, mark: Mark) -> None:
    optimizers = models.OptimizersConfigDiff(indexing_threshold=threshold)
    access.update(collection, optimizers_config=optimizers, metadata=mark.as_metadata())
