"""Parquet files as collections."""
