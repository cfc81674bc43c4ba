"""Memory of a migration of 1,000,000 vectors of 384 dimensions to 768.

    python benchmarks/memory.py --work DIR    # DIR needs 12 GiB; about a quarter of an hour

FAISS Flat to Flat and IVF-Flat to IVF-Flat, with texts beside them, by a linear and a kernel
translator of 2,000 anchors. Each migration is a ``vecmigrate migrate`` process of its own, whose
pages are looked up while it runs, see :class:`measuring.Watched`. Writes ``results/memory.md``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from measuring import Watched, make_collection, make_translator, mebibytes, provenance, watch

OLD, NEW = 384, 768
ANCHORS = 2000
METHODS = ("ridge", "kernel-ridge")
LIMIT = 1 << 30
RESULT = Path(__file__).parent / "results" / "memory.md"


def must_hold(kind: str, points: int) -> int:
    """Bytes of the index that FAISS must have in memory while it is built."""
    # A Flat index is written vector by vector; an IVF index is built whole: vectors and ids.
    return 0 if kind == "Flat" else points * (4 * NEW + 8)


def measure(folder: Path, kind: str, points: int) -> dict[str, Watched]:
    """Migrate a collection of this kind by each method."""
    source = make_collection(folder, "old", kind, points, OLD)
    found = {}
    for method in METHODS:
        translator = make_translator(folder, method, (OLD, NEW), ANCHORS)
        target = folder / "new.faiss"
        found[method] = watch(
            "migrate", source, f"faiss:{target}", "--translator", translator, "--json",
            "--state", str(folder / "state.sqlite"),
        )  # fmt: skip
        assert json.loads(found[method].out)["written"] == points
        for path in folder.glob("new.faiss*"):
            path.unlink()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--kinds", nargs="+", default=["Flat", "IVF1024,Flat"])
    parser.add_argument("--work", type=Path, help="Folder for some GiB of vectors.")
    parser.add_argument("--out", type=Path, default=RESULT)
    asked = parser.parse_args()
    lines = [
        f"# Memory of migrating {asked.points:,} vectors of {OLD} dimensions to {NEW}",
        "",
        f"`python benchmarks/memory.py`, {provenance()}.",
        "",
        "Own pages are anonymous memory (`RssAnon`); mapped pages are of the old index and of what "
        "is staged, which the system takes back as it needs them (`RssFile`). What FAISS must hold "
        "is the new index while it is built in memory, which a Flat one is not. Beyond it: own "
        f"pages less that. The limit is {mebibytes(LIMIT)}.",
        "",
        "| index | map | own pages | FAISS must hold | beyond it | mapped pages | resident at most "
        "| whole run | vectors/s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    over = []
    for kind in asked.kinds:
        with tempfile.TemporaryDirectory(dir=asked.work) as made:
            for method, seen in measure(Path(made), kind, asked.points).items():
                needed = must_hold(kind, asked.points)
                beyond = seen.anonymous - needed
                if beyond >= LIMIT:
                    over.append(f"{kind} by {method}")
                rate = json.loads(seen.out)["vectors_per_second"]
                lines.append(
                    f"| {kind} | {method} | {mebibytes(seen.anonymous)} | {mebibytes(needed)} | "
                    f"{mebibytes(beyond)} | {mebibytes(seen.mapped)} | {mebibytes(seen.resident)} "
                    f"| {seen.seconds:.0f} s | {rate:,.0f} |"
                )
                print(lines[-1], flush=True)
    asked.out.write_text("\n".join(lines) + "\n")
    if over:
        raise SystemExit(f"over the limit: {', '.join(over)}")


if __name__ == "__main__":
    main()
