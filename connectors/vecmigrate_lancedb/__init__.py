"""LanceDB tables on the local disk as sources and targets of vecmigrate."""

from vecmigrate_lancedb.connector import connector

__all__ = ["connector"]
