"""The FAISS connector passes the conformance suite that every connector is held to."""

from pathlib import Path

from vecmigrate.connector import Metric
from vecmigrate.connector.conformance import ConnectorConformance


class TestFaiss(ConnectorConformance):
    metrics = (Metric.COSINE, Metric.DOT, Metric.EUCLID, Metric.MANHATTAN)

    def target_uri(self, tmp_path: Path, name: str) -> str:
        return f"faiss:{tmp_path}/{name}.faiss"
