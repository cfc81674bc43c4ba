"""The LanceDB connector passes the conformance suite that every connector is held to."""

from pathlib import Path

from vecmigrate.connector.conformance import ConnectorConformance


class TestLanceDB(ConnectorConformance):
    where = "`count` < 5"

    # With an option, since a target's URI is also what it is read by.
    def target_uri(self, tmp_path: Path, name: str) -> str:
        return f"lancedb:{tmp_path}/database/{name}?id=key"
