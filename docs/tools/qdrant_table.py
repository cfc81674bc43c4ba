"""The table of docs/reference/qdrant.md, from the cases that are tested.

The column of a real server is what support/qdrant/recording.py kept of a run there.
"""

from __future__ import annotations

from typing import Any

from support.qdrant.cases import CASES, KEPT, OTHERS
from support.qdrant.recording import WIRES, place_of, recorded


def table() -> str:
    """One row a feature: what becomes of it, where that is tested, and how at a real server."""
    run = recorded()
    release = ".".join(run["version"].split(".")[:2])
    lines = [f"| feature | | what arrives | tested | server {release} |", "|---|---|---|---|---|"]
    for case in CASES:
        places = ", ".join({"rest": "REST", "grpc": "gRPC"}.get(p, p) for p in case.places)
        ended = _ended(run, "test_a_feature_arrives", case.feature.replace(" ", "-"))
        lines.append(f"| {case.feature} | {KEPT} | {case.says} | {places} | {ended} |")
    for row in OTHERS:
        ended = _ended(run, row.test)
        lines.append(f"| {row.feature} | {row.outcome} | {row.says} | `{row.test}` | {ended} |")
    mode = "in cluster mode" if run["cluster"] else "alone"
    lines += ["", f"server {release}: version {run['version']}, {mode}, {run['date']}."]
    return "\n".join(lines) + "\n"


def _ended(run: dict[str, Any], test: str, beginning: str = "") -> str:
    """How a test ended at a real server, by each of its interfaces; - if it does not run there."""
    found = {}
    for name, outcome in run["outcomes"].items():
        tested, _, parameters = name.removesuffix("]").partition("[")
        place = place_of(parameters)
        if tested == test and place and parameters == f"{beginning}-{place}".removeprefix("-"):
            found[WIRES[place]] = outcome
    words = {"passed": "", "failed": " fails", "skipped": " not run"}
    return (
        ", ".join(f"{wire}{words[found[wire]]}" for wire in WIRES.values() if wire in found) or "-"
    )
