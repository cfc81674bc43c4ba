"""What the searcher takes beside the store's own search, without the encoder's time.

    python benchmarks/search_overhead.py                 # a few minutes
    VECMIGRATE_TEST_QDRANT_URL=http://127.0.0.1:6333 python benchmarks/search_overhead.py
    python benchmarks/search_overhead.py --stores faiss --profile

The shared WordNet set, 30,000 documents, MiniLM to mpnet by 2,000 anchors. Each query goes to the
store's own search for 100 points with payloads and vectors (FAISS: ``search`` and
``reconstruct_batch``, records in memory; Qdrant: ``query_points`` of its client, on a copy of an
embedded collection), and to the searcher with 100 candidates, in turn, in one run. First texts are
bought (``buying``; the encoder looks vectors up, and its time is subtracted). Then the same queries
find all of them kept (``kept``: half the collection by now, which is compared with each query).
Then they have been written back and the searcher is opened anew (``native``; a few other points
are candidates now, and are bought). Told are medians, and the median of what the searcher took more
for a query. ``--profile`` prints where that time goes.

Writes ``results/search_overhead.md``, and ends with 1 if the searcher takes over 3 ms more.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import faiss
import numpy as np
from measuring import provenance
from qdrant_client import QdrantClient
from two_stage import Case, LookedUp

from vecmigrate import migrate, open_searcher
from vecmigrate.connector import IdArray, PointId
from vecmigrate.encoders import EncoderRole
from vecmigrate.search import Searcher

RESULT = Path(__file__).parent / "results" / "search_overhead.md"
URL = os.environ.get("VECMIGRATE_TEST_QDRANT_URL", "").rstrip("/")
GRPC_PORT = os.environ.get("VECMIGRATE_TEST_QDRANT_GRPC_PORT", "")
NAMES = {
    "faiss": "FAISS (Flat)",
    "qdrant": "embedded Qdrant",
    "rest": "Qdrant server, REST",
    "grpc": "Qdrant server, gRPC",
}
COLLECTION = "search-overhead"
CANDIDATES, K, WARM_UP, MOST_MS = 100, 10, 20, 3.0
STAGES = ("buying", "kept", "native")

StoreSearch = Callable[[np.ndarray], object]


class Timed(LookedUp):
    """Adds up what its calls take."""

    seconds = 0.0

    def encode(
        self,
        texts: Sequence[str] | None,
        *,
        ids: Sequence[PointId] | IdArray | None = None,
        role: EncoderRole = "document",
    ) -> np.ndarray:
        begun = time.perf_counter()
        try:
            return super().encode(texts, ids=ids, role=role)
        finally:
            self.seconds += time.perf_counter() - begun


@contextmanager
def own_search(store: str, target: str, folder: Path) -> Iterator[StoreSearch]:
    """Yield the store's own search, without vecmigrate."""
    if store == "faiss":
        index = faiss.read_index(str(folder / "new.faiss"))
        records = [json.loads(line) for line in (folder / "old.jsonl").open(encoding="utf-8")]

        def search(query: np.ndarray) -> object:
            _, [rows] = index.search(query[None], CANDIDATES)
            return index.reconstruct_batch(rows), [records[row] for row in rows.tolist()]

        yield search
        return
    if store == "qdrant":
        shutil.copytree(folder / "new-q", folder / "copy-q")
        client, name = QdrantClient(path=str(folder / "copy-q")), "new"
    else:
        client, name = server(prefer_grpc=store == "grpc"), COLLECTION
    with closing(client):

        def query_points(query: np.ndarray) -> object:
            return client.query_points(
                name, query.tolist(), limit=CANDIDATES, with_payload=True, with_vectors=True
            )

        yield query_points


def server(*, prefer_grpc: bool) -> QdrantClient:
    """The server that the environment names."""
    port = urlsplit(URL).port or 6333
    grpc_port = int(GRPC_PORT or port + 1)
    return QdrantClient(
        url=URL, prefer_grpc=prefer_grpc, grpc_port=grpc_port, check_compatibility=False
    )


def place(store: str, folder: Path) -> str:
    at = urlsplit(URL)
    port = at.port or 6333
    grpc_port = GRPC_PORT or port + 1
    return {
        "faiss": f"faiss:{folder}/new.faiss",
        "qdrant": f"qdrant:{folder}/new-q/new",
        "rest": f"qdrant://{at.hostname}:{port}/{COLLECTION}",
        "grpc": f"qdrant://{at.hostname}:{port}/{COLLECTION}?grpc=true&grpc_port={grpc_port}",
    }[store]


@dataclass(frozen=True)
class Times:
    """Milliseconds of each query."""

    store: np.ndarray
    searcher: np.ndarray

    @property
    def more(self) -> float:
        """Of a query, at the median."""
        return float(np.median(self.searcher - self.store))


def in_turn(
    queries: np.ndarray, own: StoreSearch, searcher: Searcher, encoder: Timed, profile: Profile
) -> Times:
    """Send each query to both, one first and then the other."""
    taken = np.zeros((2, len(queries)))
    for at, query in enumerate(queries):
        for which in (0, 1) if at % 2 else (1, 0):
            waited, begun = encoder.seconds, time.perf_counter()
            if which:
                with profile.on():
                    searcher.search(query, K)
            else:
                own(query)
            taken[which, at] = time.perf_counter() - begun - (encoder.seconds - waited)
    return Times(*(1000 * taken[:, WARM_UP:]))


class Profile:
    """Where the searcher's own thread spends its time, if that is asked for."""

    def __init__(self, *, wanted: bool) -> None:
        self._profile = cProfile.Profile() if wanted else None

    @contextmanager
    def on(self) -> Iterator[None]:
        if self._profile is None:
            yield
            return
        self._profile.enable()
        try:
            yield
        finally:
            self._profile.disable()

    def tell(self, what: str) -> None:
        if self._profile is not None:
            print(f"\n{what}")
            pstats.Stats(self._profile).sort_stats("cumulative").print_stats(45)


def measure(
    store: str, case: Case, folder: Path, queries: int, *, profile: bool
) -> dict[str, Times]:
    """Times of each stage."""
    target, state = place(store, folder), folder / f"{store}-state" / "state.sqlite"
    state.parent.mkdir()
    anchors = folder / "anchors.parquet"
    migrate(
        f"faiss:{folder}/old.faiss", target, folder / "translator.safetensors",
        keep_anchors=anchors, state=state,
    )  # fmt: skip
    asked, found = case.move.queries[: queries + WARM_UP], {}
    with own_search(store, target, folder) as own:
        for stage in STAGES:
            encoder, watched = Timed(case.move, case.texts), Profile(wanted=profile)
            # Written back once it is closed, behind the second stage.
            every = "0" if stage == "buying" else "1h"
            with open_searcher(
                target, encoder, state=state, candidates=CANDIDATES, write_back=every
            ) as searcher:
                found[stage] = in_turn(asked, own, searcher, encoder, watched)
            assert stage != "kept" or not encoder.documents
            watched.tell(f"{NAMES[store]}, {stage}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    here = [store for store in NAMES if URL or store not in ("rest", "grpc")]
    parser.add_argument("--stores", nargs="+", default=here, choices=list(NAMES))
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--profile", action="store_true", help="Slower; writes no results.")
    parser.add_argument("--work", type=Path, help="Folder for some hundred MiB.")
    parser.add_argument("--out", type=Path, default=RESULT)
    asked = parser.parse_args()
    case = Case.load("wordnet", "minilm:mpnet")
    lines = [
        "# What the searcher takes beside the store's own search",
        "",
        f"`python benchmarks/search_overhead.py`: shared WordNet set, 30,000 documents, MiniLM to "
        f"mpnet, {CANDIDATES} candidates, {asked.queries} queries one by one, milliseconds at the "
        f"median, without the encoder's own time; {provenance('qdrant-client')}.",
        "",
        "| store | vectors are | the store's own search | the searcher | more, of a query |",
        "|---|---|---|---|---|",
    ]
    too_slow = []
    with tempfile.TemporaryDirectory(dir=asked.work) as made:
        folder = Path(made)
        case.prepare(folder, seed=0)
        for store in asked.stores:
            try:
                stages = measure(store, case, folder, asked.queries, profile=asked.profile)
            finally:
                if store in ("rest", "grpc"):
                    with closing(server(prefer_grpc=False)) as client:
                        client.delete_collection(COLLECTION)
            for stage, times in stages.items():
                lines.append(
                    f"| {NAMES[store]} | {stage} | {np.median(times.store):.1f} | "
                    f"{np.median(times.searcher):.1f} | {times.more:.1f} |"
                )
                print(lines[-1], flush=True)
                if times.more > MOST_MS:
                    too_slow.append(f"{NAMES[store]}, {stage}: {times.more:.1f} ms")
    lines += ["", f"Wanted: at most {MOST_MS:g} ms more."]
    lines += [f"- not met: {each}" for each in too_slow]
    if not asked.profile:
        asked.out.write_text("\n".join(lines) + "\n")
    sys.exit(1 if too_slow else 0)


if __name__ == "__main__":
    main()
