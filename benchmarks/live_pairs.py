"""Draws histories of a source that its application writes to, and checks where each target ends.

    python benchmarks/live_pairs.py                      # 2,000 histories, an hour on 2 cores
    python benchmarks/live_pairs.py --examples 98 --pairs rest:grpc,faiss:parquet

For each pair of stores, histories of up to ``--steps`` things are drawn by Hypothesis
(``tests/support/live_pairs.py`` says which): changes at the source, also while ``migrate`` and
``sync`` read it, stops, SIGKILLs, what others write at the target, from before the move too, lost
state, what is forgotten, re-embedded or found by a field, cutovers, ways back, rollbacks, dropped
sources. Each ends with one ``sync`` of a source that stands still, after which the target is
compared with what a fresh migration would make. A history that fails is shrunk and shown. Writes
``results/live_pairs.md`` if all pairs were asked for.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from measuring import provenance

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.live_pairs import run_histories
from support.live_stores import PAIRS, surroundings

RESULTS = Path(__file__).parent / "results" / "live_pairs.md"
COLUMNS = {
    "histories": ("histories",),
    "stopped": ("migrations stopped", "syncs stopped"),
    "killed": ("migrate killed", "sync killed"),
    "others wrote": ("intrusions", "native writes"),
    "lost": ("ledgers lost", "states lost"),
    "forgotten": ("forgotten",),
    "cutovers": ("cutovers",),
    "compared": ("settled",),
}
"""Of the table, and what is counted in each."""


def drawn(
    pair: tuple[str, str], examples: int, steps: int, number: int
) -> tuple[Counter[str], bool]:
    """Return what happened in a pair's histories, and whether one failed, which is shown."""
    tally: Counter[str] = Counter()
    try:
        with surroundings(kills=True) as shared:
            run_histories(shared, [pair], examples, steps=steps, number=number, tally=tally)
    except Exception as error:
        traceback.print_exc()
        print("\n".join(getattr(error, "__notes__", [])), flush=True)
        return tally, True
    return tally, False


def row(name: str, tally: Counter[str], failed: str) -> str:
    cells = [f"{sum(tally[what] for what in kinds):,}" for kinds in COLUMNS.values()]
    return f"| {name} | {' | '.join(cells)} | {failed} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=2000, help="of all pairs together")
    parser.add_argument("--steps", type=int, default=12, help="of a history, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=4, help="processes")
    parser.add_argument("--pairs", help="OLD:NEW,... of the table's names; default: all")
    given = parser.parse_args()
    pairs = PAIRS
    if given.pairs:
        pairs = [tuple(pair.split(":")) for pair in given.pairs.split(",")]
    each = -(-given.examples // len(pairs))
    begun, total, failures = time.perf_counter(), Counter[str](), 0
    lines = [
        f"| source to target | {' | '.join(COLUMNS)} | failed |",
        "|---" * (len(COLUMNS) + 2) + "|",
    ]
    # Much of a history is waiting, as for the end of another's claim to a lease.
    with ProcessPoolExecutor(given.workers, get_context("spawn")) as pool:
        work = [
            pool.submit(drawn, pair, each, given.steps, number)
            for number, pair in enumerate(pairs, given.seed)
        ]
        for pair, done in zip(pairs, work, strict=True):
            tally, failed = done.result()
            lines.append(row(" to ".join(pair), tally, str(int(failed))))
            print(lines[-1], flush=True)
            total += tally
            failures += failed
    lines.append(row("**all**", total, str(failures)))
    minutes = (time.perf_counter() - begun) / 60
    asked = f"--examples {given.examples} --steps {given.steps} --seed {given.seed}"
    text = (
        f"`python benchmarks/live_pairs.py {asked}`: {minutes:,.0f} minutes; "
        f"{provenance('qdrant-client', 'hypothesis', 'lancedb')}.\n\n"
        "`rest` and `grpc` are the tests' Qdrant server, `embedded` is qdrant-client's storage,\n"
        "`edge` a directory of Qdrant's engine. `failed` is 1 if some history ended with a target\n"
        "other than a fresh migration would make.\n\n" + "\n".join(lines) + "\n"
    )
    if pairs is PAIRS:
        RESULTS.write_text(text)
    print(text)
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
