"""Kills real migrations at random instants and compares what they end as.

    python benchmarks/crash.py --kills 50     # a quarter of an hour on 2 cores

For each pair of stores, ``vecmigrate migrate`` processes are killed with SIGKILL, 50 times in all,
each run being continued by the same command; the result is compared with an uninterrupted
migration's, byte for byte in vectors and payloads. Writes ``results/crash.md``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from crash import (
    PAIRS,
    contents,
    make_source,
    make_translator,
    migrate_with_kills,
    place,
    start,
)

POINTS = {"faiss": 8000, "qdrant": 1200}
BATCH = {"faiss": 20, "qdrant": 5}
KILLS_EACH = 4


def one_pair(old: str, new: str, kills: int, seed: int) -> tuple[int, int, int]:
    """Migrate again and again until so many kills have landed; return kills, runs, differences."""
    landed = runs = different = 0
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        translator = make_translator(folder)
        source = make_source(old, folder, POINTS[old])
        state = folder / "state.sqlite"
        whole = place(new, folder, "whole")
        begun = time.perf_counter()
        process = start(source, whole, translator, state, BATCH[old])
        _, err = process.communicate()
        assert process.returncode == 0, err
        took = time.perf_counter() - begun
        expected = contents(whole)
        while landed < kills:
            target = place(new, folder, f"killed-{runs}")
            here, _ = migrate_with_kills(
                source, target, translator, state,
                kills=min(KILLS_EACH, kills - landed), seconds=(0.3 * took, took),
                seed=seed + runs, batch=BATCH[old],
            )  # fmt: skip
            landed += here
            runs += 1
            different += contents(target) != expected
            print(f"{old} to {new}: {landed} kills, {different} different", flush=True)
    return landed, runs, different


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    lines = [
        f"`python benchmarks/crash.py --kills {given.kills} --seed {given.seed}`: vecmigrate "
        f"{version('vecmigrate')}, faiss-cpu {version('faiss-cpu')}, qdrant-client "
        f"{version('qdrant-client')}, {datetime.now(UTC).date()}.",
        "",
        "| source to target | SIGKILLs | migrations | different from an uninterrupted one |",
        "|---|---|---|---|",
    ]
    failed = False
    for old, new in PAIRS:
        kills, runs, different = one_pair(old, new, given.kills, given.seed)
        lines.append(f"| {old} to {new} | {kills} | {runs} | {different} |")
        failed |= different > 0
    text = "\n".join(lines) + "\n"
    (Path(__file__).parent / "results" / "crash.md").write_text(text)
    print(text)
    sys.exit(failed)


if __name__ == "__main__":
    main()
