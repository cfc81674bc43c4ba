"""What re-embedding takes beside a bare loop that encodes the same texts, and at an endpoint.

    python benchmarks/reembed.py                              # 10 minutes, 5,000 glosses
    python benchmarks/reembed.py --docs ../shared/data/debian/docs.jsonl

In one process, in turn: ``encode`` alone over the texts, sorted by length within windows of as
many points as a migration holds; and ``migrate`` from a FAISS index with the texts beside it to a
new one, with a state file: reading, keeping what was made, writing, publishing and comparing ids
included. Of some rounds the medians count. Then an endpoint that answers each request after a fixed
time, in a process of its own: the ideal is ``in_flight`` requests at any moment. On a machine that
does other work, OMP_NUM_THREADS=1 keeps threads of torch from waiting for one another.

Writes ``results/reembed.md``, and ends with 1 if a migration has less than 95 % of the bare loop's
throughput.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path

import faiss
import numpy as np
from measuring import provenance
from models import MINILM

from vecmigrate import migrate, open_encoder
from vecmigrate.encoders.base import BaseEncoder

RESULT = Path(__file__).parent / "results" / "reembed.md"
DOCS = Path(__file__).parent / "demo" / "data" / "docs.jsonl"
WINDOW, LEAST, OLD = 4096, 0.95, 256
LATENCY, IN_FLIGHT, REQUEST, DIMENSION = 0.5, 8, 64, 32
ANSWER = np.random.default_rng(0).standard_normal(DIMENSION).tolist()


def make_source(folder: Path, texts: list[str]) -> str:
    """Write a FAISS index of arbitrary vectors with the texts beside it; return its URI."""
    vectors = np.random.default_rng(0).standard_normal((len(texts), OLD), dtype=np.float32)
    faiss.normalize_L2(vectors)
    index = faiss.IndexFlatIP(OLD)
    index.add(vectors)
    faiss.write_index(index, str(folder / "old.faiss"))
    with (folder / "old.jsonl").open("w") as file:
        for number, text in enumerate(texts):
            file.write(json.dumps({"id": number, "text": text}) + "\n")
    return f"faiss:{folder}/old.faiss"


@dataclass(frozen=True, slots=True)
class Taken:
    """What it took to embed the texts: by the clock, and of the processors."""

    seconds: float
    processor: float


@contextmanager
def taking(into: list[Taken]) -> Iterator[None]:
    """Note what the context takes."""
    begun, worked = time.perf_counter(), time.process_time()
    yield
    into.append(Taken(time.perf_counter() - begun, time.process_time() - worked))


def bare(encoder: BaseEncoder, texts: list[str]) -> None:
    """Encode the texts and nothing else."""
    for start in range(0, len(texts), WINDOW):
        encoder.encode(sorted(texts[start : start + WINDOW], key=len, reverse=True))


def migration(encoder: BaseEncoder, source: str, folder: Path, name: str, points: int) -> None:
    """Re-embed the source."""
    result = migrate(
        source, f"faiss:{folder}/{name}.faiss", encoder=encoder,
        state=folder / f"{name}.sqlite", batch_size=WINDOW,
    )  # fmt: skip
    assert result.written == result.kept_anchors == points


def serve(port: Connection) -> None:
    """Answer each request for embeddings after a fixed time."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))["input"]
            time.sleep(LATENCY)
            data = [{"index": i, "embedding": ANSWER} for i in range(len(asked))]
            content = json.dumps({"data": data}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        port.send(server.server_port)
        server.serve_forever()


def endpoint(folder: Path, source: str, points: int) -> float:
    """Re-embed the source by an endpoint; return texts a second while it was asked."""
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    address = f"openai:m?base_url=http://127.0.0.1:{ours.recv()}/v1&in_flight={IN_FLIGHT}"
    try:
        result = migrate(
            source, f"faiss:{folder}/endpoint.faiss", encoder=f"{address}&batch_size={REQUEST}",
            state=folder / "endpoint.sqlite", batch_size=WINDOW,
        )  # fmt: skip
    finally:
        server.terminate()
    assert result.written == points
    assert result.embedded is not None
    return result.embedded.texts / result.streaming_seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--docs", type=Path, default=DOCS, help="JSON lines with a field text.")
    parser.add_argument("--most", type=int, help="Take so many texts, at most.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--encoder", default=MINILM)
    parser.add_argument("--out", type=Path, default=RESULT)
    asked = parser.parse_args()
    texts = [json.loads(line)["text"] for line in asked.docs.read_text().splitlines()]
    texts = texts[: asked.most]
    encoder = open_encoder(asked.encoder)
    assert isinstance(encoder, BaseEncoder)
    alone: list[Taken] = []
    moved: list[Taken] = []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        source = make_source(folder, texts)
        bare(encoder, texts[:WINDOW])
        for number in range(asked.rounds):
            with taking(alone):
                bare(encoder, texts)
            with taking(moved):
                migration(encoder, source, folder, f"new{number}", len(texts))
            print(f"round {number}: {alone[-1]} and {moved[-1]}", flush=True)
        asking = endpoint(folder, source, len(texts))
    loop, move = (
        len(texts) / statistics.median(t.seconds for t in each) for each in (alone, moved)
    )
    work = [statistics.median(t.processor for t in each) for each in (alone, moved)]
    share, ideal = move / loop, IN_FLIGHT * REQUEST / LATENCY
    lines = [
        "# Re-embedding beside a bare loop of `encode`",
        "",
        f"`python benchmarks/reembed.py`, {provenance('sentence-transformers', 'torch')}; "
        f"{len(texts):,} texts of {asked.docs.parent.name}, {encoder.identity.name}, medians of "
        f"{asked.rounds} rounds in one process.",
        "",
        "| | texts a second | share | processor seconds |",
        "|---|---|---|---|",
        f"| `encode` alone, texts sorted by length | {loop:,.1f} | 100 % | {work[0]:.1f} |",
        f"| `migrate --encoder`, FAISS to FAISS | {move:,.1f} | {share:.1%} | {work[1]:.1f} |",
        f"| an endpoint that answers after {LATENCY:g} s, {IN_FLIGHT} requests of {REQUEST} texts "
        f"at once, ideal | {ideal:,.0f} | 100 % | |",
        f"| `migrate --encoder` by it | {asking:,.0f} | {asking / ideal:.1%} | |",
        "",
    ]
    asked.out.write_text("\n".join(lines))
    print("\n".join(lines))
    if share < LEAST:
        raise SystemExit(f"{share:.1%} of the bare loop is less than {LEAST:.0%}")


if __name__ == "__main__":
    main()
