"""Migrations a second, beside what the machine could do at best, and beside peers.

    python benchmarks/throughput.py --work DIR          # to 1,000,000 vectors; DIR needs 16 GiB
    python benchmarks/throughput.py --work DIR --large  # 10,000,000 too: DIR needs 60 GiB
    python benchmarks/throughput.py --work DIR --vector-io VENV/bin/python  # see peer_vector_io.py

From 384 dimensions to 768. The floor is, in the same run, a loop that
reads the source's bytes, multiplies as many rows by matrices of the translator's shapes (one for a
linear map, two for a kernel map of as many landmarks), which are in the processor's cache, and
writes and syncs the target's bytes. Both find a source of 100,000 or 1,000,000 vectors in the
system's cache, and read one of 10,000,000 from the disk. Each migration
is a ``vecmigrate migrate`` process of its own; its time is the one that it tells, from the first
read to the publication. Floor and migration take turns, and the ratio is that of their medians.
Peers do the same work on the same points. Writes ``results/throughput.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import TypeAlias

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from measuring import CHUNK, clustered, forget, make_translator, mebibytes, provenance, watch
from numpy.typing import NDArray
from qdrant_client import QdrantClient, models

OLD, NEW, ANCHORS = 384, 768, 2000
METHODS = ("ridge", "kernel-ridge")
BATCH = 8192
PACKAGES = ("pyarrow", "qdrant-client")
CACHEABLE = 4 << 30
"""Bytes of a source beyond which what is read and written does not stay in memory."""
SMALL = 100_000
"""Vectors up to which a migration takes half a second, and is measured more often."""
PEERS = "peers"
RESULTS = Path(__file__).parent / "results"
Key: TypeAlias = tuple[str, int, str]
Product: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Route:
    """A kind of source, and one of target.

    Attributes
    ----------
    source
        In FAISS's factory language; or ``parquet``, ``npy``.
    bare
        True where the target's store does no more than to write: the floor is a fair one.
    counts
        Vectors, and those of a large run.
    """

    source: str
    target: str
    bare: bool
    counts: tuple[int, ...]
    large: tuple[int, ...] = ()
    rounds: int = 3

    @property
    def name(self) -> str:
        return f"{self.source} to {self.target}"


ROUTES = (
    Route("Flat", "Flat", True, (100_000, 1_000_000), (10_000_000,)),
    Route("parquet", "Flat", True, (100_000, 1_000_000), (10_000_000,)),
    Route("IVF1024,Flat", "IVF1024,Flat", False, (100_000, 1_000_000), rounds=1),
    Route("HNSW16,Flat", "HNSW16,Flat", False, (100_000,), (1_000_000,), rounds=1),
    # Not more: qdrant-client copies an array of all points for each that is added.
    Route("Flat", "qdrant", False, (20_000, 100_000), rounds=1),
)


@dataclass(frozen=True, slots=True)
class Floor:
    """Seconds of the bare loop, one part after another."""

    reading: float
    multiplying: float
    writing: float
    syncing: float

    @property
    def seconds(self) -> float:
        return self.reading + self.multiplying + self.writing + self.syncing


@dataclass(frozen=True, slots=True)
class Measured:
    """One migration, or the floor beside it.

    Attributes
    ----------
    seconds, floor
        Of the round in the middle.
    share
        Of the floor's rate.
    reading, translating, writing
        Seconds in which each stage was at work.
    anonymous
        Bytes of memory of the process's own, at most.
    """

    route: str
    count: int
    method: str
    bare: bool
    seconds: float
    floor: Floor
    reading: float
    translating: float
    writing: float
    anonymous: int

    @property
    def key(self) -> Key:
        return (self.route, self.count, self.method)

    @property
    def rate(self) -> float:
        return self.count / self.seconds

    @property
    def share(self) -> float:
        return self.floor.seconds / self.seconds

    @property
    def overlap(self) -> float:
        return (self.reading + self.translating + self.writing) / self.seconds


def chunks(count: int) -> Iterator[NDArray[np.float32]]:
    rng = np.random.default_rng(1)
    for start in range(0, count, CHUNK):
        yield clustered(min(CHUNK, count - start), OLD, rng)


def make_source(folder: Path, kind: str, count: int) -> tuple[str, Path]:
    """Write the source; its URI and its file."""
    if kind == "parquet":
        path = folder / "old.parquet"
        vector = pa.list_(pa.float32(), OLD)
        schema = pa.schema([("id", pa.int64()), ("vector", vector)])
        with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as file:
            done = 0
            for rows in chunks(count):
                ids = pa.array(np.arange(done, done + len(rows)))
                vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), OLD)
                file.write_table(pa.table([ids, vectors], schema=schema), row_group_size=BATCH)
                done += len(rows)
        return f"parquet:{path}?metric=cosine", path
    path = folder / "old.faiss"
    index = faiss.index_factory(OLD, kind, faiss.METRIC_INNER_PRODUCT)
    if not index.is_trained:
        index.train(clustered(min(count, 64 * index.nlist), OLD, np.random.default_rng(3)))
    for rows in chunks(count):
        index.add(rows)
    faiss.write_index(index, str(path))
    return f"faiss:{path}", path


def product_of(method: str) -> Product:
    """The translator's products, to memory that is there already."""
    out = np.empty((BATCH, NEW), np.float32)
    if method == "ridge":
        weights = np.ones((OLD, NEW), np.float32)
        return lambda rows: np.matmul(rows, weights, out=out[: len(rows)])
    first = np.full((OLD, ANCHORS), 1 / OLD, np.float32)
    second = np.full((ANCHORS, NEW), 1 / ANCHORS, np.float32)
    between = np.empty((BATCH, ANCHORS), np.float32)

    def both(rows: NDArray[np.float32]) -> NDArray[np.float32]:
        np.matmul(rows, first, out=between[: len(rows)])
        return np.matmul(between[: len(rows)], second, out=out[: len(rows)])

    return both


def floor(source: Path, target: Path, count: int, method: str) -> Floor:
    """What the bare loop takes."""
    product, width = product_of(method), 4 * OLD
    extra = max(0, source.stat().st_size - count * width)
    buffer = np.empty((BATCH, OLD), np.float32)
    # Parquet's bytes are not all floats, and what is none takes another time to multiply.
    multiplied = clustered(BATCH, OLD, np.random.default_rng(4))
    times = np.zeros(4)
    with source.open("rb", buffering=0) as reader, target.open("wb", buffering=0) as writer:
        reader.read(extra)
        for start in range(0, count, BATCH):
            rows = buffer[: min(BATCH, count - start)]
            begun = time.perf_counter()
            reader.readinto(memoryview(rows).cast("B"))
            read = time.perf_counter()
            done = product(multiplied[: len(rows)])
            translated = time.perf_counter()
            writer.write(memoryview(done).cast("B"))
            times[:3] += np.diff([begun, read, translated, time.perf_counter()])
        begun = time.perf_counter()
        os.fsync(writer.fileno())
        times[3] = time.perf_counter() - begun
    target.unlink()
    return Floor(*times.tolist())


def migrate(source: str, target: str, translator: str, count: int) -> tuple[dict, int]:
    """Run a migration; what it tells of itself, and its memory."""
    ran = watch("migrate", source, target, "--translator", translator, "--json")
    told = json.loads(ran.out)
    assert told["written"] == count
    return told, ran.anonymous


def target_of(folder: Path, kind: str) -> str:
    if kind == "qdrant":
        return f"qdrant:{folder}/qdrant/new"
    return f"faiss:{folder}/new.faiss?index={kind}"


def clear(folder: Path) -> None:
    """Remove what a migration wrote."""
    shutil.rmtree(folder / "qdrant", ignore_errors=True)
    shutil.rmtree(folder / ".vecmigrate", ignore_errors=True)
    for path in folder.glob("new.faiss*"):
        path.unlink()


def measure(
    folder: Path, route: Route, count: int, translators: dict[str, str]
) -> Iterator[Measured]:
    source, path = make_source(folder, route.source, count)
    for method, translator in translators.items():
        if method == "kernel-ridge" and count in route.large and not route.bare:
            continue  # the store takes nearly all of the time
        floors, told, memory = [], [], []
        large = path.stat().st_size > CACHEABLE
        rounds = 7 if route.bare and count <= SMALL else route.rounds
        for _ in range(1 if large else rounds):
            if large:
                forget(path)
            floors.append(floor(path, folder / "floor.bin", count, method))
            if large:
                forget(path)
            one, anonymous = migrate(source, target_of(folder, route.target), translator, count)
            told.append(one)
            memory.append(anonymous)
            clear(folder)
        middle = sorted(told, key=lambda one: one["seconds"])[len(told) // 2]
        stages = middle["stages"]
        floors.sort(key=lambda one: one.seconds)
        yield Measured(
            route.name,
            count,
            method,
            route.bare,
            middle["seconds"],
            floors[len(floors) // 2],
            **{**stages, "writing": stages["writing"] + middle["indexing_seconds"]},
            anonymous=max(memory),
        )
    path.unlink()


@dataclass(frozen=True, slots=True)
class Beside:
    """A peer's migration and ours, of the same points."""

    what: str
    count: int
    ours: float
    peer: float

    @property
    def times(self) -> float:
        return self.peer / self.ours


def isotrieve_mapping(folder: Path) -> object:
    from isotrieve import RidgeMapping

    old, new = (np.load(folder / f"anchors-{side}.npy") for side in ("old", "new"))
    return RidgeMapping().fit(old, new)


def beside_isotrieve(folder: Path, translator: str) -> Iterator[Beside]:
    """Isotrieve 0.4.0: Qdrant to Qdrant, both embedded; and its own array files."""
    from isotrieve.adapters.qdrant import QdrantAdapter

    mapping = isotrieve_mapping(folder)
    count = 20_000
    rows = next(chunks(count))
    place = folder / "peer"
    client = QdrantClient(path=str(place))
    cosine = models.VectorParams(size=OLD, distance=models.Distance.COSINE)
    client.create_collection("old", vectors_config=cosine)
    client.upload_collection("old", vectors=rows, ids=range(count), batch_size=512)
    adapter = QdrantAdapter.__new__(QdrantAdapter)
    # Its constructor takes the URL of a server alone; the rest is its own code.
    adapter._mapping, adapter._client, adapter._collection = mapping, client, "old"
    begun = time.perf_counter()
    adapter.migrate(batch_size=1000, new_collection="theirs")
    peer = time.perf_counter() - begun
    assert client.count("theirs").count == count
    client.close()
    told, _ = migrate(f"qdrant:{place}/old", f"qdrant:{place}/ours", translator, count)
    yield Beside(
        "isotrieve 0.4.0: embedded Qdrant to embedded Qdrant", count, told["seconds"], peer
    )
    shutil.rmtree(place)
    count = 200_000
    rows = np.concatenate(list(chunks(count)))
    np.save(folder / "old.npy", rows)
    told, _ = migrate(
        f"npy:{folder}/old.npy?metric=cosine", f"npy:{folder}/new.npy", translator, count
    )
    begun = time.perf_counter()
    done = np.concatenate([mapping.transform(row[None].astype(np.float64)) for row in rows])
    np.save(folder / "theirs.npy", done.astype(np.float32))
    yield Beside(
        "isotrieve 0.4.0: array file to array file, its transform called a row at a time as in its "
        "Qdrant migration",
        count,
        told["seconds"],
        time.perf_counter() - begun,
    )


def beside_vector_io(folder: Path, translator: str, python: str) -> Iterator[Beside]:
    """vector-io 0.1.248 imports its Parquet into an embedded Qdrant, as it is."""
    count = 20_000
    place = folder / "vdf"
    (place / "data").mkdir(parents=True)
    table: dict[str, object] = {"id": np.arange(count), "vector": list(next(chunks(count)))}
    # Without a payload it fails.
    table["group"] = [number % 7 for number in range(count)]
    pq.write_table(pa.table(table), place / "data" / "1.parquet")
    space = {
        "namespace": "",
        "index_name": "old",
        "total_vector_count": count,
        "exported_vector_count": count,
        "dimensions": OLD,
        "vector_columns": ["vector"],
        "data_path": "data",
        "metric": "Cosine",
    }
    about = {"version": "0.1", "id_column": "id", "indexes": {"old": [space]}}
    (place / "VDF_META.json").write_text(json.dumps(about))
    script = Path(__file__).with_name("peer_vector_io.py")
    ran = subprocess.run(
        [python, script, place, folder / "theirs"], capture_output=True, text=True, check=True
    )
    source = f"parquet:{place}/data/1.parquet?metric=cosine"
    told, _ = migrate(source, f"qdrant:{folder}/ours/new", translator, count)
    yield Beside(
        "vector-io 0.1.248: Parquet to embedded Qdrant, which it copies without translating",
        count,
        told["seconds"],
        float(ran.stdout.split()[-1]),
    )


def page(found: list[Measured], peers: list[Beside]) -> str:
    lines = [
        f"# Throughput, {OLD} to {NEW} dimensions",
        "",
        f"`python benchmarks/throughput.py`, {provenance(*PACKAGES)}. {ANCHORS:,} anchors.",
        "",
        "| route | vectors | translator | vectors/s | share of the floor | reading | translating | "
        "writing | stages / wall | memory of its own |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in found:
        total = one.reading + one.translating + one.writing
        shares = [part / total for part in (one.reading, one.translating, one.writing)]
        share = f"{one.share:.0%}" if one.bare else "(the store builds its index)"
        parts = " | ".join(f"{part:.0%}" for part in shares)
        lines.append(
            f"| {one.route} | {one.count:,} | {one.method} | {one.rate:,.0f} | {share} | {parts} | "
            f"{one.overlap:.2f} | {mebibytes(one.anonymous)} |"
        )
    lines += [
        "",
        "What the floor is made of, in seconds, one part after another:",
        "",
        "| route | vectors | product of | reading | multiplying | writing | syncing | in all |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {one.route} | {one.count:,} | {one.method} | {one.floor.reading:.2f} | "
        f"{one.floor.multiplying:.2f} | {one.floor.writing:.2f} | {one.floor.syncing:.2f} | "
        f"{one.floor.seconds:.2f} |"
        for one in found
        if one.bare
    ]
    lines += ["", "| beside | vectors | vecmigrate | the peer | times as fast |"]
    lines += ["|---|---|---|---|---|"]
    lines += [
        f"| {one.what} | {one.count:,} | {one.ours:.1f} s | {one.peer:.1f} s | {one.times:.1f} |"
        for one in peers
    ]
    return "\n".join(lines) + "\n"


def earlier(out: Path) -> tuple[dict[Key, Measured], dict[str, Beside]]:
    """Return what the file has."""
    path = out.with_suffix(".json")
    if not path.exists():
        return {}, {}
    told = json.loads(path.read_text())
    found = [Measured(**{**one, "floor": Floor(**one["floor"])}) for one in told["migrations"]]
    peers = [Beside(**one) for one in told["peers"]]
    return {one.key: one for one in found}, {one.what: one for one in peers}


def save(out: Path, measured: dict[Key, Measured], peers: dict[str, Beside]) -> None:
    """Write what was measured so far, since all of it takes hours."""
    order = [route.name for route in ROUTES]
    found = sorted(
        measured.values(),
        key=lambda one: (order.index(one.route), one.count, METHODS.index(one.method)),
    )
    told = {
        "made": provenance(*PACKAGES),
        "migrations": [asdict(one) for one in found],
        "peers": [asdict(one) for one in peers.values()],
    }
    out.with_suffix(".json").write_text(json.dumps(told, indent=1) + "\n")
    out.with_suffix(".md").write_text(page(found, list(peers.values())))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, help="Folder for many GiB of vectors.")
    parser.add_argument("--large", action="store_true", help="10,000,000 vectors too.")
    parser.add_argument("--routes", nargs="*", default=[], help="With such a name, or peers.")
    parser.add_argument("--methods", nargs="*", default=METHODS, help="Only such translators.")
    parser.add_argument("--most", type=int, default=10_000_000, help="No more vectors than that.")
    parser.add_argument("--add", action="store_true", help="Keep the file's other rows.")
    parser.add_argument("--vector-io", help="Its Python, see peer_vector_io.py.")
    parser.add_argument("--out", type=Path, default=RESULTS / "throughput")
    asked = parser.parse_args()
    found, peers = earlier(asked.out) if asked.add else ({}, {})
    with tempfile.TemporaryDirectory(dir=asked.work) as work:
        folder = Path(work)
        os.environ["VECMIGRATE_STATE"] = str(folder / ".vecmigrate" / "state.sqlite")
        translators = {m: make_translator(folder, m, (OLD, NEW), ANCHORS) for m in METHODS}
        ridge = translators["ridge"]
        translators = {m: path for m, path in translators.items() if m in asked.methods}
        for route in ROUTES:
            if asked.routes and not any(word in route.name for word in asked.routes):
                continue
            for count in (*route.counts, *(route.large if asked.large else ())):
                if count > asked.most:
                    continue
                for one in measure(folder, route, count, translators):
                    found[one.key] = one
                    save(asked.out, found, peers)
                    print(one.route, f"{one.count:,}", one.method, f"{one.share:.0%}", flush=True)
        runs = [beside_isotrieve(folder, ridge)]
        if asked.vector_io:
            runs.append(beside_vector_io(folder, ridge, asked.vector_io))
        for beside in chain(*runs) if not asked.routes or PEERS in asked.routes else ():
            peers[beside.what] = beside
            save(asked.out, found, peers)
            print(beside.what, f"{beside.times:.1f}", flush=True)
    print(asked.out.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
