"""Kills real migrations and compares what they end as.

    python benchmarks/crash.py            # half an hour on 2 cores

For each pair of stores, ``vecmigrate migrate`` processes are killed with SIGKILL at random
instants, ``--kills`` times, and others before every ``--every``-th of their calls that touch a
disk, and then once more before a random one. Each is continued by the same command; the result is
compared with an uninterrupted migration's, byte for byte in vectors and payloads, and nothing but
the target may be left behind. Migrations that embed all points, or a share, are killed at random
between all stores; texts that are paid for again may be no more than were in flight at the kills.
Writes ``results/crash.md``.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from measuring import provenance

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support import live
from support.crash import (
    PAIRS,
    STORES,
    Stepper,
    contents,
    make_source,
    make_translator,
    migrate_with_kills,
    place,
    step_through,
    stepper,
)
from support.embedding_server import EmbeddingServer, embedding_server

from vecmigrate import migrate
from vecmigrate.encoders.constancy import COMPARED

POINTS = {"faiss": 8000, "qdrant": 1200}
BATCH = {"faiss": 20, "qdrant": 5}
KILLS_EACH = 4
EMBEDDED, REQUEST, IN_FLIGHT = 300, 10, 2
ROUTES = ("re-embed", "mixed")


@dataclass
class Tally:
    """What came of the migrations that were killed.

    Attributes
    ----------
    again
        Texts that were paid for again.
    too_many
        Migrations that paid for more of them again than were in flight.
    """

    kills: int = 0
    migrations: int = 0
    different: int = 0
    again: int = 0
    too_many: int = 0

    @property
    def failed(self) -> bool:
        return self.different + self.too_many > 0

    def row(self, what: str, how: str) -> str:
        return (
            f"| {what} | {how} | {self.kills} | {self.migrations} | {self.different} | "
            f"{self.again} | {self.too_many} |"
        )


@dataclass(frozen=True)
class Move:
    """A source, and how it is migrated."""

    source: str
    points: int
    batch: int
    translator: Path | None
    embedding: dict[str, Any] = field(default_factory=dict)

    @property
    def arguments(self) -> list[str]:
        given = {name.replace("_", "-"): str(value) for name, value in self.embedding.items()}
        return [part for name, value in given.items() for part in (f"--{name}", value)]


def translated(old: str, folder: Path) -> Move:
    translator = make_translator(folder)
    return Move(make_source(old, folder, POINTS[old]), POINTS[old], BATCH[old], translator)


def embedded(route: str, old: str, folder: Path, server: EmbeddingServer) -> Move:
    options = f"&normalize=true&batch_size={REQUEST}&in_flight={IN_FLIGHT}"
    if route == "re-embed":
        given = {"encoder": server.name(options), "on_missing_text": "skip"}
        return Move(make_source(old, folder, EMBEDDED), EMBEDDED, REQUEST, None, given)
    job = live.make(folder, old, anchors=True, kernel=True)
    encoder = server.name(f"{options}&dimensions={live.NEW}").replace("model-a", "new-model")
    given = {"encoder": encoder, "reembed": "60%", "keep_anchors": str(folder / "a.parquet")}
    return Move(job.source, live.N, REQUEST, job.translator, given)


def at_random(
    move: Move, new: str, folder: Path, kills: int, seed: int, server: EmbeddingServer
) -> Tally:
    """Migrate again and again until so many kills have landed."""
    tally, whole = Tally(), place(new, folder, "whole")
    server.seen.clear()
    migrate(move.source, whole, move.translator, batch_size=move.batch, **move.embedding)
    expected, once = contents(whole), server.asked().total()
    while tally.kills < kills:
        target = place(new, folder, "killed")
        server.seen.clear()
        landed, _ = migrate_with_kills(
            move.source, target, move.translator, folder / "killed.sqlite",
            kills=min(KILLS_EACH, kills - tally.kills), points=move.points,
            seed=seed + tally.migrations, batch=move.batch, more=move.arguments,
        )  # fmt: skip
        again = server.asked().total() - once
        tally.kills += landed
        tally.migrations += 1
        tally.different += contents(target) != expected
        tally.again += again
        tally.too_many += not 0 <= again <= landed * (IN_FLIGHT * REQUEST + COMPARED)
        for path in folder.glob("killed*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
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


def all_of_them(given: argparse.Namespace) -> Iterator[tuple[str, str, Tally]]:
    """Yield what was moved, how it was killed, and what came of it."""
    with embedding_server() as server:
        for old, new in PAIRS:
            with tempfile.TemporaryDirectory() as folder:
                move = translated(old, Path(folder))
                random_ones = at_random(move, new, Path(folder), given.kills, given.seed, server)
            yield f"{old} to {new}", "at random", random_ones
            with stepper() as killer:
                yield (
                    f"{old} to {new}",
                    "before a step",
                    at_steps(old, new, given.every, given.seed, killer),
                )
        for route, old, new in product(ROUTES, STORES, STORES):
            with tempfile.TemporaryDirectory() as folder:
                move = embedded(route, old, Path(folder), server)
                found = at_random(move, new, Path(folder), given.route_kills, given.seed, server)
            yield f"{route}, {old} to {new}", "at random", found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="at random instants, for each pair")
    parser.add_argument("--route-kills", type=int, default=4, help="as --kills, of other routes")
    parser.add_argument("--every", type=int, default=3, help="1 kills before each step")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    lines = [
        f"`python benchmarks/crash.py --kills {given.kills} --route-kills {given.route_kills} "
        f"--every {given.every} --seed {given.seed}`: {provenance('qdrant-client', 'lancedb')}.",
        "",
        "Killed with SIGKILL at random instants, or before a call that touches a disk and, when",
        "continued, before another one; then continued to the end. Texts may be paid for again "
        f"that were in flight at a kill, {IN_FLIGHT * REQUEST} at most.",
        "",
        "| source to target | killed | SIGKILLs | migrations | not as if uninterrupted | texts paid"
        " again | too many of them |",
        "|---|---|---|---|---|---|---|",
    ]
    failed = False
    for what, how, tally in all_of_them(given):
        lines.append(tally.row(what, how))
        print(lines[-1], flush=True)
        failed |= tally.failed
    text = "\n".join(lines) + "\n"
    (Path(__file__).parent / "results" / "crash.md").write_text(text)
    print(text)
    sys.exit(failed)


if __name__ == "__main__":
    main()
