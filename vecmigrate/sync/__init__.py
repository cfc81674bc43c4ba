"""Keeps a translated collection in step with its source, and makes it native over time."""

from vecmigrate.sync.back import sync_back
from vecmigrate.sync.cutover import cut_over_in_step
from vecmigrate.sync.options import SyncOptions, SyncResult
from vecmigrate.sync.run import sync
from vecmigrate.sync.status import Status, status_of

__all__ = [
    "Status",
    "SyncOptions",
    "SyncResult",
    "cut_over_in_step",
    "status_of",
    "sync",
    "sync_back",
]
