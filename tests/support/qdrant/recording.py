"""Keeps how the tests ended at a real Qdrant server, for the table of docs/reference/qdrant.md.

    cd tests
    VECMIGRATE_TEST_QDRANT_URL=http://HOST:6333 ../.venv/bin/pytest --record-qdrant \\
        integration/connectors/qdrant/test_features.py \\
        integration/connectors/qdrant/test_feature_rules.py
    ../.venv/bin/python -m support.qdrant.table
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from support.qdrant.places import SERVER, server_asked

FILE = Path(__file__).parents[2] / "data" / "qdrant_server_run.json"
WIRES = {"server": "REST", "server-grpc": "gRPC"}
"""The places of a real server by their names in the tests' ids, each with what it is called."""


def place_of(parameters: str) -> str | None:
    """The place of a real server that a test ran at, by the end of its id."""
    last = [name for name in WIRES if parameters == name or parameters.endswith(f"-{name}")]
    return max(last, key=len, default=None)


class Recorder:
    """A plugin that writes the file once all tests have ended."""

    def __init__(self) -> None:
        if not SERVER:
            raise pytest.UsageError("--record-qdrant needs VECMIGRATE_TEST_QDRANT_URL")
        self._outcomes: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = report.nodeid.rpartition("::")[2]
        test, _, parameters = name.removesuffix("]").partition("[")
        if place_of(parameters) is None:
            return
        if report.outcome != "passed" or report.when == "call":
            self._outcomes[f"{test}[{parameters}]"] = report.outcome

    def pytest_sessionfinish(self) -> None:
        told: dict[str, Any] = {
            "version": server_asked("/")["version"],
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "cluster": server_asked("/cluster")["result"]["status"] == "enabled",
            "outcomes": dict(sorted(self._outcomes.items())),
        }
        FILE.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def recorded() -> dict[str, Any]:
    """The last run at a real server."""
    told: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return told
