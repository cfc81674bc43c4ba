"""Parquet and NumPy files pass the conformance suite that every connector is held to."""

from pathlib import Path

from vecmigrate.connector import Metric
from vecmigrate.connector.conformance import ConnectorConformance

METRICS = tuple(Metric)


class TestParquetFile(ConnectorConformance):
    metrics = METRICS

    def target_uri(self, tmp_path: Path, name: str) -> str:
        return f"parquet:{tmp_path}/{name}.parquet"


class TestParquetFolder(ConnectorConformance):
    metrics = METRICS

    # With options, since a target's URI is also what it is read by.
    def target_uri(self, tmp_path: Path, name: str) -> str:
        return f"parquet:{tmp_path}/{name}?id=key&vector=v"


class TestNpy(ConnectorConformance):
    metrics = METRICS

    def target_uri(self, tmp_path: Path, name: str) -> str:
        return f"npy:{tmp_path}/{name}.npy"
