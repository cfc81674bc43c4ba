"""What ``vecmigrate verify`` takes, in seconds and memory.

    python benchmarks/verification.py --work DIR    # DIR needs 3 GiB; about five minutes

A FAISS IVF collection of 64 dimensions, texts beside it, is migrated to 96 and verified by a
process of its own: a sample of 1,000 vectors compared, and every one. Its pages are looked up while
it runs, see :class:`measuring.Watched`. Writes ``results/verification.md``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from measuring import make_collection, make_translator, mebibytes, provenance, watch

OLD, NEW = 64, 96
ANCHORS = 2000
KIND = "IVF256,Flat"
RESULT = Path(__file__).parent / "results" / "verification.md"


def measure(folder: Path, points: int) -> list[str]:
    """Verify a migration of so many points, by a sample and in full; rows of the table."""
    state = ("--state", str(folder / "state.sqlite"))
    source, target = make_collection(folder, "old", KIND, points, OLD), f"faiss:{folder}/new.faiss"
    translator = make_translator(folder, "procrustes", (OLD, NEW), ANCHORS)
    watch("migrate", source, target, "--translator", translator, *state, "--quiet")
    rows = []
    for what, options in (("1,000", ()), ("all", ("--full",))):
        seen = watch(
            "verify", source, target, "--translator", translator, *options, *state, "--json"
        )
        figures = {check["name"]: check["figures"] for check in json.loads(seen.out)["checks"]}
        assert figures["vectors"]["compared"] == (1000 if what == "1,000" else points)
        rows.append(
            f"| {points:,} | {what} | {seen.seconds:.0f} s | {mebibytes(seen.anonymous)} | "
            f"{mebibytes(seen.mapped)} | {figures['vectors']['worst']:.1e} |"
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--work", type=Path, help="Folder for some GiB of vectors.")
    parser.add_argument("--out", type=Path, default=RESULT)
    asked = parser.parse_args()
    lines = [
        f"# What verifying takes, {OLD} dimensions to {NEW}, FAISS {KIND}",
        "",
        f"`python benchmarks/verification.py`, {provenance()}.",
        "",
        "Own pages are anonymous memory (`RssAnon`); mapped pages are of the two collections' "
        "files, which the system takes back as it needs them (`RssFile`). Off by at most: a "
        "vector's distance from its re-translation, in its own length.",
        "",
        "| points | vectors compared | whole run | own pages | mapped pages | off by at most |",
        "|---|---|---|---|---|---|",
    ]
    for points in asked.points:
        with tempfile.TemporaryDirectory(dir=asked.work) as made:
            rows = measure(Path(made), points)
        lines += rows
        print("\n".join(rows), flush=True)
    asked.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
