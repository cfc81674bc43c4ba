"""The Qdrant connector passes the conformance suite, embedded and on a server if one is named."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from qdrant_client import QdrantClient

from vecmigrate.connector import Metric
from vecmigrate.connector.conformance import ConnectorConformance

METRICS = (Metric.COSINE, Metric.DOT, Metric.EUCLID, Metric.MANHATTAN)
WHERE = '{"must": [{"key": "count", "range": {"lt": 5}}]}'
SERVER = os.environ.get("VECMIGRATE_TEST_QDRANT_URL", "")


class TestEmbedded(ConnectorConformance):
    metrics, where = METRICS, WHERE

    def target_uri(self, tmp_path: Path, name: str) -> str:
        return f"qdrant:{tmp_path}/storage/{name}"


class TestEdge(ConnectorConformance):
    metrics, where = METRICS, WHERE

    def target_uri(self, tmp_path: Path, name: str) -> str:
        return f"qdrant-edge:{tmp_path}/storage/{name}"


@pytest.mark.skipif(not SERVER, reason="VECMIGRATE_TEST_QDRANT_URL names no server")
class TestServer(ConnectorConformance):
    metrics, where = METRICS, WHERE

    @pytest.fixture(autouse=True)
    def _clean_up(self) -> Iterator[None]:
        self.made: list[str] = []
        yield
        client = QdrantClient(url=SERVER, api_key=os.environ.get("QDRANT_API_KEY"), timeout=60)
        for name in self.made:
            client.delete_collection(name)
        client.close()

    def target_uri(self, tmp_path: Path, name: str) -> str:
        self.made.append(f"vecmigrate-{name}-{uuid.uuid4().hex[:8]}")
        scheme, _, rest = SERVER.partition("://")
        prefix = "qdrant+https" if scheme == "https" else "qdrant"
        return f"{prefix}://{rest.rstrip('/')}/{self.made[-1]}"
