"""Moves a collection of a Qdrant server while an application writes to it all the time.

    VECMIGRATE_TEST_QDRANT_URL=http://127.0.0.1:6333 python benchmarks/soak.py   # 15 minutes
    VECMIGRATE_TEST_QDRANT_URL=… python benchmarks/soak.py --points 5000 --seconds 10 --settle 0.5

100,000 points, from 384 to 768 dimensions by a linear map, and an application that makes 100
changes a second through the readers' alias: other vectors and texts, other payloads, new points,
deletions. It goes on through ``migrate``, ``verify``, passes of ``sync``, ``cutover --catch-up``
and ``sync --back``, and waits for the last of these and ``rollback`` alone. When the alias leads to
a collection of the other dimension, the server refuses its vectors, and it makes them by the other
encoder from then on, as an application does that chooses its encoder by the collection it finds.

At each switch the collection that was left stands still, and both are compared with what the
application wrote, point by point: none may be lost, stale, or there though it was deleted. The
lag is the age of the oldest change that the target lacks, looked up every two seconds. Writes
``results/soak.json`` and ``.md`` unless ``--points`` is given.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, astuple, dataclass, field, replace
from http import HTTPStatus
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from measuring import make_translator, provenance
from numpy.typing import NDArray
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

from vecmigrate import load_translator
from vecmigrate.anchors import AnchorCard, AnchorSet, Strategy, save_anchors
from vecmigrate.connector import EncoderIdentity, Metric
from vecmigrate.translators.fit import fit_translator

URL = os.environ.get("VECMIGRATE_TEST_QDRANT_URL", "").rstrip("/")
OLD, NEW, ANCHORS = 384, 768, 2000
SOURCE, TARGET, READERS = "soak-old", "soak-new", "soak-readers"
POINTS, RATE, SECONDS = 100_000, 100, 60
SETTLE = "0.05"
"""Passes find more than the default, as 100 points change while one second is read."""
TICKS = 10
"""Times a second that the application writes."""
AT_ONCE, POLL_SECONDS, TOLERANCE = 1000, 2.0, 1e-5
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Version:
    """What the application wrote last of a point.

    Attributes
    ----------
    number
        Of the change, counted over all points; the payload has it.
    vector
        The number of the change that gave the point its vector.
    native
        True if that is a vector of the new encoder.
    """

    number: int
    vector: int
    native: bool = False


Truth = dict[int, Version]


def vector(number: int, dimension: int) -> NDArray[np.float32]:
    """The unit vector that change ``number`` gave a point."""
    row = np.random.default_rng(number).standard_normal(dimension, dtype=np.float32)
    return row / np.linalg.norm(row)


def payload(number: int) -> dict[str, Any]:
    return {
        "text": f"the text of change {number}, which is a sentence of some fifteen words or so",
        "number": number,
        "group": number % 7,
    }


def connect() -> QdrantClient:
    port = urlsplit(URL).port or 6333
    grpc_port = int(os.environ.get("VECMIGRATE_TEST_QDRANT_GRPC_PORT") or port + 1)
    return QdrantClient(
        url=URL, grpc_port=grpc_port, prefer_grpc=False, timeout=300, check_compatibility=False
    )


def uri(name: str) -> str:
    url = urlsplit(URL)
    port = os.environ.get("VECMIGRATE_TEST_QDRANT_GRPC_PORT") or (url.port or 6333) + 1
    return f"qdrant://{url.hostname}:{url.port or 6333}/{name}?grpc_port={port}"


def load(client: QdrantClient, count: int) -> Truth:
    """Make the collection and its alias; change ``i`` is that which made point ``i``."""
    for name in (SOURCE, TARGET):
        client.delete_collection(name)
    params = models.VectorParams(size=OLD, distance=models.Distance.COSINE)
    client.create_collection(SOURCE, vectors_config=params)
    alias = models.CreateAlias(collection_name=SOURCE, alias_name=READERS)
    client.update_collection_aliases([models.CreateAliasOperation(create_alias=alias)])
    for start in range(0, count, AT_ONCE):
        ids = list(range(start, min(start + AT_ONCE, count)))
        rows = [vector(i, OLD).tolist() for i in ids]
        batch = models.Batch(ids=ids, vectors=rows, payloads=[payload(i) for i in ids])
        client.upsert(SOURCE, batch, wait=True)
    return {i: Version(i, i) for i in range(count)}


class Application(threading.Thread):
    """Writes through the readers' alias, at an even pace, until it is told to end.

    Attributes
    ----------
    truth
        What the points are to be, wherever the alias leads.
    left
        What they were in the collection that it led to before, when it was switched.
    native
        True while vectors are made by the new encoder.
    done
        Changes so far: when each was made, of which point, and its number (None for a deletion).
    """

    def __init__(self, truth: Truth, rate: int) -> None:
        super().__init__(daemon=True)
        self.truth, self.left = truth, Truth()
        self.native = False
        self.done: list[tuple[float, int, int | None]] = []
        self.failed: BaseException | None = None
        self._rate, self._rng = rate, random.Random(0)
        self._ids = list(truth)
        self._number = len(truth)
        self._last = Truth()
        self._end = threading.Event()
        self.lock = threading.Lock()

    def run(self) -> None:
        client, due = connect(), time.monotonic()
        try:
            while not self._end.is_set():
                with self.lock:
                    self._write(client)
                due += 1 / TICKS
                time.sleep(max(0.0, due - time.monotonic()))
        except BaseException as error:
            self.failed = error
        finally:
            client.close()

    def end(self) -> None:
        """Have it end, and wait for that; raises what it failed of."""
        self._end.set()
        self.join()
        if self.failed is not None:
            raise self.failed

    def _write(self, client: QdrantClient) -> None:
        """Change some points, half of them whole, and one in ten each new and deleted."""
        count = self._rate // TICKS
        new = max(1, count // 10)
        chosen = self._rng.sample(self._ids, count)
        added = [len(self.truth) + 10**7 + self._number + i for i in range(new)]
        self._upsert(client, added + chosen[: count // 2])
        self._retell(client, chosen[count // 2 : count - 2 * new])
        self._remove(client, chosen[count - 2 * new : count - new])
        self._ids += added

    def _upsert(self, client: QdrantClient, ids: list[int]) -> None:
        versions = {i: self._next() for i in ids}
        try:
            self._put(client, versions)
        except UnexpectedResponse as error:
            if b"dimension" not in error.content:
                raise
            self._go_over(client)
            self._put(client, versions)
        for i, version in versions.items():
            self._note(i, replace(version, native=self.native))

    def _put(self, client: QdrantClient, versions: Truth) -> None:
        dimension = NEW if self.native else OLD
        points = [
            models.PointStruct(
                id=i, vector=vector(v.vector, dimension).tolist(), payload=payload(v.number)
            )
            for i, v in versions.items()
        ]
        client.upsert(READERS, points, wait=True)

    def _retell(self, client: QdrantClient, ids: list[int]) -> None:
        ids = [i for i in ids if i in self.truth]
        self._last = {i: self.truth[i] for i in ids}
        for i in ids:
            version = replace(self.truth[i], number=self._next().number)
            try:
                client.overwrite_payload(READERS, payload(version.number), [i], wait=True)
            except UnexpectedResponse as error:
                # A point that the other collection has not; the next vector tells the switch.
                if error.status_code != HTTPStatus.NOT_FOUND:
                    raise
            else:
                self._note(i, version)

    def _remove(self, client: QdrantClient, ids: list[int]) -> None:
        ids = [i for i in ids if i in self.truth]
        self._last |= {i: self.truth[i] for i in ids}
        client.delete(READERS, models.PointIdsList(points=ids), wait=True)
        gone = set(ids)
        self._ids = [i for i in self._ids if i not in gone]
        for i in ids:
            del self.truth[i]
            self.done.append((time.time(), i, None))

    def _go_over(self, client: QdrantClient) -> None:
        """Take note that the alias was switched, since the last points were written whole."""
        left = TARGET if self.native else SOURCE
        self.left = dict(self.truth)
        # Of the changes since, some were made here, and some there.
        here = {r.id: r.payload for r in client.retrieve(left, list(self._last))}
        for i, before in self._last.items():
            if i in here and (here[i] or {})["number"] == before.number:
                self.left[i] = before
        self.native = not self.native

    def _next(self) -> Version:
        self._number += 1
        return Version(self._number, self._number)

    def _note(self, point_id: int, version: Version) -> None:
        self.truth[point_id] = version
        self.done.append((time.time(), point_id, version.number))


class Lag(threading.Thread):
    """Looks up how old the oldest change is that the target lacks."""

    def __init__(self, writer: Application) -> None:
        super().__init__(daemon=True)
        self.seconds: list[float] = []
        self._writer, self._from = writer, len(writer.done)
        self._end = threading.Event()

    def run(self) -> None:
        client = connect()
        waiting: dict[int, tuple[float, int | None]] = {}
        while not self._end.wait(POLL_SECONDS):
            upto = len(self._writer.done)
            for at, i, number in self._writer.done[self._from : upto]:
                first = waiting[i][0] if i in waiting else at
                waiting[i] = first, number
            self._from = upto
            for ids in chunks(list(waiting)):
                found = client.retrieve(TARGET, ids, with_payload=["number"])
                numbers = {r.id: (r.payload or {})["number"] for r in found}
                for i in ids:
                    number = waiting[i][1]
                    if numbers.get(i) == number or (number or 0) < numbers.get(i, 0):
                        del waiting[i]
            oldest = min((at for at, _ in waiting.values()), default=time.time())
            self.seconds.append(time.time() - oldest)
        client.close()

    def end(self) -> dict[str, float]:
        self._end.set()
        self.join()
        return {"median": round(median(self.seconds), 1), "most": round(max(self.seconds), 1)}


def chunks(ids: list[int]) -> Iterator[list[int]]:
    return (ids[at : at + AT_ONCE] for at in range(0, len(ids), AT_ONCE))


class Maps:
    """The map of the migration, and the one of the other direction, which `sync --back` fits."""

    def __init__(self, folder: Path) -> None:
        self.translator = make_translator(folder, "ridge", (OLD, NEW), ANCHORS)
        old, new = (np.load(folder / f"anchors-{which}.npy") for which in ("old", "new"))
        identity = EncoderIdentity(name="new-model", dimension=NEW, normalized=True)
        card = AnchorCard(
            source=uri(SOURCE), population=ANCHORS, seed=0, strategy=Strategy.UNIFORM,
            target_encoder=identity, metric=Metric.COSINE,
        )  # fmt: skip
        save_anchors(AnchorSet(np.arange(ANCHORS), old, new, card), folder / "anchors.parquet")
        self._there = load_translator(self.translator)
        self._back, _ = fit_translator(new, old, method="ridge")

    def expected(self, name: str, versions: list[Version]) -> NDArray[np.float32]:
        """Return the vectors that a collection is to have."""
        native = name == TARGET
        own = [vector(v.vector, NEW if v.native else OLD) for v in versions]
        others = [row for row, v in zip(own, versions, strict=True) if v.native is not native]
        made = iter(others)
        if others:
            fitted = self._there if native else self._back
            made = iter(fitted.transform(np.array(others, np.float32)))
        rows = [
            row if v.native is native else next(made) for row, v in zip(own, versions, strict=True)
        ]
        return np.array(rows, np.float32).reshape(len(rows), NEW if native else OLD)


@dataclass
class Compared:
    """What is wrong with a collection that stands still, by the changes that were made.

    Attributes
    ----------
    lost, undead
        Points that are not there, and that are there though they were deleted.
    stale
        Id, the number that is there, what should be there, and whether the vector is right.
    """

    points: int = 0
    lost: list[int] = field(default_factory=list)
    stale: list[tuple[int, ...]] = field(default_factory=list)
    undead: list[int] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        return not (self.lost or self.stale or self.undead)


def compare(client: QdrantClient, name: str, truth: Truth, maps: Maps) -> Compared:
    """Compare each point with what the application wrote of it last."""
    done, offset = Compared(), None
    left = dict(truth)
    while True:
        found, offset = client.scroll(
            name, limit=AT_ONCE, offset=offset, with_payload=["number"], with_vectors=True
        )
        known = [record for record in found if record.id in left]
        done.undead += [record.id for record in found if record.id not in left]
        versions = [left.pop(record.id) for record in known]
        rows = np.array([record.vector for record in known], np.float32)
        for record, version, row, expected in zip(
            known, versions, rows, maps.expected(name, versions), strict=True
        ):
            same = np.linalg.norm(row - expected) <= TOLERANCE
            number = (record.payload or {})["number"]
            if not same or number != version.number:
                done.stale.append((record.id, number, *astuple(version), bool(same)))
        done.points += len(found)
        if offset is None:
            break
    done.lost = list(left)
    return done


@dataclass
class Soak:
    """One move from its first command to its last, and what came of it."""

    client: QdrantClient
    writer: Application
    folder: Path
    maps: Maps
    seconds: float
    settle: str
    figures: dict[str, Any] = field(default_factory=dict)

    def command(self, name: str, *arguments: str, translates: bool = True) -> dict[str, Any]:
        """Run a command of vecmigrate's, and return its result with the seconds it took."""
        given = [name, *arguments, "--state", str(self.folder / "state.sqlite"), "--json"]
        if translates:
            given += ["--translator", self.maps.translator]
        begun = time.perf_counter()
        ended = subprocess.run(
            [sys.executable, "-m", "vecmigrate", *given], capture_output=True, text=True
        )
        taken = time.perf_counter() - begun
        print(f"{name}: {taken:,.1f} s, exit code {ended.returncode}", flush=True)
        if ended.returncode:
            raise SystemExit(f"vecmigrate {name} ended with {ended.returncode}: {ended.stderr}")
        return {**json.loads(ended.stdout), "took": round(taken, 1)}

    def migrate(self) -> None:
        done = self.command("migrate", uri(SOURCE), uri(TARGET), "--settle", self.settle)
        self.figures["migrate"] = {
            "seconds": done["took"], "vectors_per_second": round(done["vectors_per_second"]),
        }  # fmt: skip

    def verify(self) -> None:
        done = self.command("verify", uri(SOURCE), uri(TARGET), "--full", "--max-pending", "1")
        [pending] = [check for check in done["checks"] if check["name"] == "pending"]
        self.figures["verify"] = {
            "seconds": done["took"], "pending": pending["figures"]["pending"],
        }  # fmt: skip

    def follow(self) -> None:
        """Sync again and again while the lag is looked at."""
        lag, passes, begun = Lag(self.writer), [], time.monotonic()
        lag.start()
        while time.monotonic() - begun < self.seconds or len(passes) < 2:
            done = self.command("sync", uri(SOURCE), uri(TARGET))
            brought = done["arrived"] + done["changed"] + done["vanished"]
            passes.append({"seconds": done["took"], "brought": brought})
        self.figures["sync"] = passes
        self.figures["lag_seconds"] = lag.end()

    def cut_over(self) -> None:
        """Lead readers over; from then on the application writes to the new collection."""
        # The last syncs have changed the target since it was verified.
        self.verify()
        done = self.command(
            "cutover", uri(READERS), "--to", uri(TARGET), "--catch-up", "--settle", self.settle
        )
        self.figures["cutover"] = {"took": done["took"], **done["caught_up"]}
        self._wait_until(native=True)
        self._check("old, left at the cutover", SOURCE, self.writer.left)

    def stay(self) -> None:
        """Let the application write there, with the forgotten line of a cron table."""
        time.sleep(self.seconds)
        done = self.command("sync", uri(SOURCE), uri(TARGET))
        self.figures["forgotten_sync"] = {
            "wrote": done["arrived"] + done["changed"] + done["vanished"]
        }
        with self.writer.lock:
            self._check("new, in use", TARGET, self.writer.truth)

    def go_back(self) -> None:
        """Lead readers back; the application waits for that, and writes to the old one again."""
        brought = [self._bring_back()]
        with self.writer.lock:
            begun = time.monotonic()
            brought.append(self._bring_back())
            self.command("rollback", uri(READERS), "--yes", translates=False)
            waited = time.monotonic() - begun
        self.figures["way_back"] = {"passes": brought, "application_waited": round(waited, 1)}
        self._wait_until(native=False)
        self._check("new, left at the rollback", TARGET, self.writer.left)

    def _bring_back(self) -> dict[str, float]:
        anchors = str(self.folder / "anchors.parquet")
        done = self.command(
            "sync", "--back", uri(TARGET), uri(SOURCE), "--keep-anchors", anchors, translates=False
        )
        brought = done["arrived"] + done["changed"] + done["vanished"]
        return {"seconds": done["took"], "brought": brought}

    def _wait_until(self, *, native: bool) -> None:
        while self.writer.native is not native and self.writer.failed is None:
            time.sleep(0.1)

    def _check(self, which: str, name: str, truth: Truth) -> None:
        done = compare(self.client, name, dict(truth), self.maps)
        counts = {
            "points": done.points, "lost": len(done.lost), "stale": len(done.stale),
            "undead": len(done.undead),
        }  # fmt: skip
        print(f"{which}: {counts}", flush=True)
        self.figures.setdefault("compared", {})[which] = counts
        if not done.is_good:
            some = {kind: ids[:10] for kind, ids in asdict(done).items() if kind != "points"}
            print(f"{which}: {some}", flush=True)


def table(figures: dict[str, Any], source: str) -> str:
    """Return the figures as the documents show them."""
    first, lag, switch = figures["migrate"], figures["lag_seconds"], figures["cutover"]
    passes, back = figures["sync"], figures["way_back"]
    compared = figures["compared"].values()
    rows = {
        "`migrate`": f"{first['seconds']:,.0f} s, {first['vectors_per_second']:,} vectors/s",
        "a pass of `sync`, median": f"{median(p['brought'] for p in passes):,.0f} points in "
        f"{median(p['seconds'] for p in passes):,.0f} s",
        "oldest change that the target lacks, with `sync` after `sync`":
        f"{lag['median']:,.0f} s, at most {lag['most']:,.0f} s",
        "points behind at the switch": f"{switch['behind']:,}, for {switch['seconds']:,.1f} s",
        "passes of `sync --back`": ", ".join(
            f"{each['brought']:,} points in {each['seconds']:,.0f} s" for each in back["passes"]
        ),
        "application waited, for the last of these and `rollback`":
        f"{back['application_waited']:,.0f} s",
        "lost, stale, or there though deleted": ", ".join(
            f"{sum(each[kind] for each in compared):,}" for kind in ("lost", "stale", "undead")
        ),
    }  # fmt: skip
    lines = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())]
    changes = f"{figures['changes']:,} changes, {figures['rate']} a second"
    return f"{source}\n{figures['points']:,} points, {changes}.\n\n" + "\n".join(lines) + "\n"


@contextmanager
def collections() -> Iterator[QdrantClient]:
    """A client; what was made is deleted at the end."""
    client = connect()
    try:
        yield client
    finally:
        for name in (SOURCE, TARGET):
            client.delete_collection(name)
        client.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int)
    parser.add_argument("--rate", type=int, default=RATE, help="changes a second")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each longer phase")
    parser.add_argument("--settle", default=SETTLE, help="of migrate and cutover")
    given = parser.parse_args()
    if not URL:
        raise SystemExit("VECMIGRATE_TEST_QDRANT_URL names no Qdrant server")
    with tempfile.TemporaryDirectory() as made, collections() as client:
        folder = Path(made)
        maps = Maps(folder)
        writer = Application(load(client, given.points or POINTS), given.rate)
        soak = Soak(client, writer, folder, maps, given.seconds, given.settle)
        begun = time.monotonic()
        writer.start()
        for phase in (soak.migrate, soak.verify, soak.follow, soak.cut_over, soak.stay):
            phase()
        soak.go_back()
        writer.end()
        soak._check("old, in use again", SOURCE, writer.truth)
        minutes = (time.monotonic() - begun) / 60
    figures = {
        "points": given.points or POINTS, "rate": given.rate, "changes": len(writer.done),
        "minutes": round(minutes, 1), **soak.figures,
    }  # fmt: skip
    with closing(connect()) as client:
        server = client.info().version
    made = f"{provenance('qdrant-client')}, Qdrant {server}"
    text = table(figures, f"`python benchmarks/soak.py`: {made}.")
    print(json.dumps(figures, indent=1), text, sep="\n")
    if given.points is None:
        (RESULTS / "soak.json").write_text(json.dumps(figures, indent=1) + "\n")
        (RESULTS / "soak.md").write_text(text)


if __name__ == "__main__":
    main()
