"""Waits for a server to index what was written."""

from __future__ import annotations

import time

from qdrant_client import models

from vecmigrate.connector import WriteError
from vecmigrate_qdrant.access import Access

INDEXING_SECONDS = 300.0
POLL_SECONDS = 0.5


def await_index(access: Access, collection: str) -> tuple[str, ...]:
    """Wait until a collection is green, within bounds; a note where it is not by then.

    Raises
    ------
    WriteError
        Where the server could not index it.
    """
    deadline = time.monotonic() + INDEXING_SECONDS
    while True:
        info = access.run(lambda client: client.get_collection(collection))
        if info.status == models.CollectionStatus.RED:
            raise WriteError(
                f"the server could not index {access.place}/{collection} ({info.optimizer_status})",
                remedy="See the server's log; then start over with --restart.",
            )
        if info.status != models.CollectionStatus.YELLOW:
            return ()
        if time.monotonic() > deadline:
            return ("the server is still indexing: complete, but slower to search until then",)
        time.sleep(POLL_SECONDS)
