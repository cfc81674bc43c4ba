"""A sync that finds nothing to do, at a million points of FAISS and of Parquet.

    python benchmarks/sync_unchanged.py   # 15 minutes, 5 GiB of disk

Flat vectors of 256 dimensions with a payload of two fields, by a linear map of the same size. Right
after ``migrate``: ``sync``, which goes by the source's files and lists the target's ids; ``sync``
again, which goes by the target's files, too; then, once one file of the source got another time, a
``sync`` that compares all points, as each did before files' times were noted. Writes
``results/sync_unchanged.md``, and ends with 1 if a sync of unchanged files takes more than 10
seconds or 500 MiB.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

from measuring import Watched, make_collection, make_translator, mebibytes, provenance, watch

DIMENSION, ANCHORS = 256, 2000
SECONDS, MEMORY = 10.0, 500 << 20
RESULT = Path(__file__).parent / "results" / "sync_unchanged.md"
RUNS = {
    "the source's files are as noted": "stamp",
    "both sides' files are as noted": "stamp",
    "a file's time has changed: all is compared": "hash",
}


def measure(folder: Path, source: str, target: str, translator: str, points: int) -> list[Watched]:
    """Migrate, and sync in each way."""
    state = ("--state", str(folder / "state.sqlite"))
    pair = (source, target, "--translator", translator, *state, "--json")
    assert json.loads(watch("migrate", *pair).out)["written"] == points
    found = []
    for way in RUNS.values():
        if way == "hash":
            os.utime(source.partition(":")[2])
        ran = watch("sync", *pair)
        told = json.loads(ran.out)
        assert (told["found_by"]["way"], told["count"]) == (way, points), told
        assert told["arrived"] == told["changed"] == told["vanished"] == 0
        found.append(ran)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--work", type=Path, help="Folder for some GiB of vectors.")
    parser.add_argument("--out", type=Path, default=RESULT)
    asked = parser.parse_args()
    lines = [
        f"# A sync without changes at {asked.points:,} points of {DIMENSION} dimensions",
        "",
        f"`python benchmarks/sync_unchanged.py`, {provenance('pyarrow')}.",
        "",
        "Whole run of the command. Own pages are anonymous memory (`RssAnon`), mapped pages are of "
        "files (`RssFile`), which the system takes back as it needs them.",
        "",
        "| store | run | seconds | own pages | mapped pages |",
        "|---|---|---|---|---|",
    ]
    over = []
    with tempfile.TemporaryDirectory(dir=asked.work) as made:
        folder = Path(made)
        translator = make_translator(folder, "ridge", (DIMENSION, DIMENSION), ANCHORS)
        faiss = make_collection(folder, "old", "Flat", asked.points, DIMENSION)
        parquet = f"parquet:{folder}/old-rows.parquet"
        watch(
            "migrate", faiss, parquet, "--translator", translator, "--json",
            "--state", str(folder / "made.sqlite"),
        )  # fmt: skip
        for store, source in (("FAISS", faiss), ("Parquet", parquet)):
            target = source.replace("/old", "/new")
            for run, seen in zip(
                RUNS, measure(folder, source, target, translator, asked.points), strict=True
            ):
                held = f"{mebibytes(seen.anonymous)} | {mebibytes(seen.mapped)}"
                lines.append(f"| {store} | {run} | {seen.seconds:.1f} | {held} |")
                print(lines[-1], flush=True)
                if RUNS[run] == "stamp" and (seen.seconds > SECONDS or seen.anonymous > MEMORY):
                    over.append(f"{store}, {run}")
    asked.out.write_text("\n".join(lines) + "\n")
    if over:
        raise SystemExit(f"over the limit: {'; '.join(over)}")


if __name__ == "__main__":
    main()
