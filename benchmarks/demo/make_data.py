"""Takes the demo's 5,000 WordNet glosses from the shared data set: ``python make_data.py DIR``.

DIR is ``shared/data/wordnet``. The result is committed, so only a new choice of data needs this.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np

DOCUMENTS, QUERIES, SEED = 5000, 400, 0
OUT = Path(__file__).parent / "data"


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_lines(path: Path, records: list[dict]) -> None:
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    path.write_text("".join(lines), encoding="utf-8")


def main(shared: Path) -> None:
    rng = np.random.default_rng(SEED)
    docs, queries = read_lines(shared / "docs.jsonl"), read_lines(shared / "queries.jsonl")
    asked = np.sort(rng.permutation(len(queries))[:QUERIES])
    relevant = sorted({i for q in asked for i in queries[q]["relevant"]})
    others = np.setdiff1d(np.arange(len(docs)), relevant)
    fill = rng.permutation(others)[: DOCUMENTS - len(relevant)]
    chosen = np.sort(np.concatenate([relevant, fill]).astype(int))
    new_id = {int(old): new for new, old in enumerate(chosen)}

    OUT.mkdir(exist_ok=True)
    write_lines(
        OUT / "docs.jsonl", [{**docs[old], "id": new} for new, old in enumerate(chosen.tolist())]
    )
    write_lines(
        OUT / "queries.jsonl",
        [
            {
                "id": new,
                "text": queries[old]["text"],
                "relevant": [new_id[i] for i in queries[old]["relevant"]],
            }
            for new, old in enumerate(asked.tolist())
        ],
    )
    for what, rows in (("docs", chosen), ("queries", asked)):
        np.save(OUT / f"mpnet.{what}.f16.npy", np.load(shared / f"mpnet.{what}.f16.npy")[rows])
    shutil.copyfile(shared / "LICENSE.wordnet.txt", OUT / "LICENSE.wordnet.txt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
