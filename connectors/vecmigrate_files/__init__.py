"""Parquet and NumPy files on the local disk as sources and targets of vecmigrate."""

from vecmigrate_files.connectors import npy_connector, parquet_connector

__all__ = ["npy_connector", "parquet_connector"]
