"""Parquet and NumPy files on the local disk as sources and targets of vecmigrate."""

from vecmigrate_files.connectors import npy, parquet

__all__ = ["npy", "parquet"]
