"""What the ledger that a migration begins costs it: with it and without, in turn.

    python benchmarks/ledger_cost.py                                  # Flat to Flat, 5 minutes
    python benchmarks/ledger_cost.py --port 6333 --grpc-port 6334     # at a Qdrant server, too

One process, 384 to 768 dimensions by a linear map: a million vectors from one Flat index to
another without payloads, which is the fastest path; and, at a server, 100,000 points of five
fields. Both keep a state file; one has no ledger. Writes ``results/ledger_cost.md``, and ends with
1 if the median cost is over 15 %, or 5 % at the server.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import faiss
import live_migrate
import numpy as np
from measuring import CHUNK, clustered, make_translator, provenance
from qdrant_streaming import NEW, OLD, Server

from vecmigrate import migrate
from vecmigrate.migration.progress import SavedProgress

MOST = {"Flat to Flat": 0.15, "server to server": 0.05}
RESULT = Path(__file__).parent / "results" / "ledger_cost.md"

_begin = SavedProgress.open_sink


def _without(self: SavedProgress, *given: Any, **how: Any) -> Any:
    return _begin(self, *given, **{**how, "form": None})


def compare(migrate_once: Callable[[Path], object], rounds: int) -> list[tuple[float, float]]:
    """Return the seconds with a ledger and without, of each round."""
    taken = []
    for number in range(rounds):
        seconds = {}
        for ledger in (True, False) if number % 2 else (False, True):
            with tempfile.TemporaryDirectory() as folder:
                with patch.object(SavedProgress, "open_sink", _begin if ledger else _without):
                    begun = time.perf_counter()
                    migrate_once(Path(folder))
                    seconds[ledger] = time.perf_counter() - begun
                kept = list(Path(folder).glob("ledgers/*.sqlite"))
                assert bool(kept) == ledger
        taken.append((seconds[True], seconds[False]))
        print(f"with {seconds[True]:.1f} s, without {seconds[False]:.1f} s", flush=True)
    return taken


def flat(folder: Path, count: int, rounds: int) -> list[tuple[float, float]]:
    index, rng = faiss.IndexFlatIP(OLD), np.random.default_rng(1)
    for start in range(0, count, CHUNK):
        index.add(clustered(min(CHUNK, count - start), OLD, rng))
    faiss.write_index(index, str(folder / "old.faiss"))
    del index
    translator = make_translator(folder, "ridge", (OLD, NEW), 2000)
    source = f"faiss:{folder}/old.faiss"

    def once(work: Path) -> None:
        migrate(source, f"faiss:{work}/new.faiss", translator, state=work / "state.sqlite")

    once_before = folder / "before"
    once_before.mkdir()
    once(once_before)
    return compare(once, rounds)


def served(folder: Path, server: Server, count: int, rounds: int) -> list[tuple[float, float]]:
    client = server.client()
    live_migrate.fill(client, live_migrate.SOURCE, count)
    translator = make_translator(folder, "ridge", (OLD, NEW), 2000)
    source, target = server.uri(live_migrate.SOURCE), server.uri(live_migrate.TARGET)

    def once(work: Path) -> None:
        client.delete_collection(live_migrate.TARGET)
        migrate(source, target, translator, state=work / "state.sqlite", still=True)

    try:
        return compare(once, rounds)
    finally:
        client.delete_collection(live_migrate.SOURCE)
        client.delete_collection(live_migrate.TARGET)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, help="of a Qdrant server")
    parser.add_argument("--grpc-port", type=int, default=6334)
    given = parser.parse_args()
    found: dict[str, tuple[int, list[tuple[float, float]]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        found["Flat to Flat"] = given.count, flat(Path(folder), given.count, given.rounds)
    if given.port:
        server, points = Server(given.host, given.port, given.grpc_port), given.count // 10
        with tempfile.TemporaryDirectory() as folder:
            found["server to server"] = points, served(Path(folder), server, points, given.rounds)
    lines, failed = [], False
    for what, (count, taken) in found.items():
        costs = [one / other - 1 for one, other in taken]
        cost = median(one for one, _ in taken) / median(other for _, other in taken) - 1
        failed |= cost > MOST[what]
        lines.append(
            f"| {what} | {count:,} | {median(one for one, _ in taken):.1f} | "
            f"{median(other for _, other in taken):.1f} | {cost:+.1%} | "
            f"{' '.join(f'{each:+.1%}' for each in costs)} |"
        )
    RESULT.write_text(
        f"`python benchmarks/ledger_cost.py`, {provenance('qdrant-client')}.\n\n"
        "Medians of the rounds, in which the two take turns to be first.\n\n"
        "| | points | seconds with a ledger | without | more | each round |\n"
        "|---|---|---|---|---|---|\n" + "\n".join(lines) + "\n"
    )
    print(RESULT.read_text())
    sys.exit(failed)


if __name__ == "__main__":
    main()
