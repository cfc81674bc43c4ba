"""Keeps a translated collection in step with its source, and makes it native over time."""

from vecmigrate.sync.options import SyncOptions, SyncResult
from vecmigrate.sync.run import sync
from vecmigrate.sync.status import Status, status_of

__all__ = ["Status", "SyncOptions", "SyncResult", "status_of", "sync"]
