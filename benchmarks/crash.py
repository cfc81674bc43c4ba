"""Kills real migrations and compares what they end as.

    python benchmarks/crash.py            # a quarter of an hour on 2 cores

For each pair of stores, ``vecmigrate migrate`` processes are killed with SIGKILL at random
instants, ``--kills`` times, and others before every ``--every``-th of their calls that touch a
disk, and then once more before a random one. Each is continued by the same command; the result is
compared with an uninterrupted migration's, byte for byte in vectors and payloads, and nothing but
the target may be left behind. Writes ``results/crash.md``.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.crash import (
    PAIRS,
    Stepper,
    contents,
    make_source,
    make_translator,
    migrate_with_kills,
    place,
    step_through,
    stepper,
)

from vecmigrate import migrate

POINTS = {"faiss": 8000, "qdrant": 1200}
BATCH = {"faiss": 20, "qdrant": 5}
KILLS_EACH = 4


@dataclass
class Tally:
    """What came of the migrations that were killed."""

    kills: int = 0
    migrations: int = 0
    different: int = 0


def at_random(old: str, new: str, kills: int, seed: int) -> Tally:
    """Migrate again and again until so many kills have landed."""
    tally = Tally()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        translator = make_translator(folder)
        source = make_source(old, folder, POINTS[old])
        whole = place(new, folder, "whole")
        migrate(source, whole, translator, batch_size=BATCH[old])
        expected = contents(whole)
        while tally.kills < kills:
            target = place(new, folder, "killed")
            landed, _ = migrate_with_kills(
                source, target, translator, folder / "state.sqlite",
                kills=min(KILLS_EACH, kills - tally.kills), points=POINTS[old],
                seed=seed + tally.migrations, batch=BATCH[old],
            )  # fmt: skip
            tally.kills += landed
            tally.migrations += 1
            tally.different += contents(target) != expected
            for path in folder.glob("killed*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            print(f"{old} to {new}, at random: {tally}", flush=True)
    return tally


def at_steps(old: str, new: str, every: int, seed: int, killer: Stepper) -> Tally:
    """Kill one migration before each of its steps, or before every so manieth."""
    tally, rng = Tally(), random.Random(seed)
    with tempfile.TemporaryDirectory() as made:
        for ended in step_through(old, new, Path(made), killer, rng, every=every):
            tally.kills += sum(code == -signal.SIGKILL for code in ended.codes)
            tally.migrations += 1
            tally.different += not ended.same
            if not ended.same:
                print(f"{old} to {new}, before step {ended.step}: {ended}", flush=True)
    print(f"{old} to {new}, by steps: {tally}", flush=True)
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="at random instants, for each pair")
    parser.add_argument("--every", type=int, default=3, help="1 kills before each step")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    lines = [
        f"`python benchmarks/crash.py --kills {given.kills} --every {given.every} --seed "
        f"{given.seed}`: vecmigrate {version('vecmigrate')}, faiss-cpu {version('faiss-cpu')}, "
        f"qdrant-client {version('qdrant-client')}, {datetime.now(UTC).date()}.",
        "",
        "Killed with SIGKILL at random instants, or before a call that touches a disk and, when",
        "continued, before another one; then continued to the end.",
        "",
        "| source to target | killed | SIGKILLs | migrations | not as if uninterrupted |",
        "|---|---|---|---|---|",
    ]
    failed = False
    with stepper() as killer:
        for old, new in PAIRS:
            for how, tally in (
                ("at random", at_random(old, new, given.kills, given.seed)),
                ("before a step", at_steps(old, new, given.every, given.seed, killer)),
            ):
                lines.append(
                    f"| {old} to {new} | {how} | {tally.kills} | {tally.migrations} | "
                    f"{tally.different} |"
                )
                failed |= tally.different > 0
    text = "\n".join(lines) + "\n"
    (Path(__file__).parent / "results" / "crash.md").write_text(text)
    print(text)
    sys.exit(failed)


if __name__ == "__main__":
    main()
