"""Targets that two runs want, in every store, and the leases on them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from vecmigrate_qdrant.marks import LEASE_KEY

from support.forked import Forked
from support.qdrant.places import SERVER, Place, open_place
from vecmigrate import open_sink
from vecmigrate.connector import Metric, Provenance, TargetSpec, VectorBatch

DIMENSION = 4
MADE = Provenance(vecmigrate_version="0", source="faiss:old", created_at="2026-01-01")
SPEC = TargetSpec(dimension=DIMENSION, metric=Metric.DOT, provenance=MADE)
SERVERS = ["rest", "server"] if SERVER else ["rest"]
SINKS = ["faiss", "parquet", "npy", "lancedb", "embedded", "edge", *SERVERS]
UPDATERS = [store for store in SINKS if store != "npy"]
_PATHS = {
    "faiss": "faiss:{}/new.faiss",
    "parquet": "parquet:{}/new",
    "npy": "npy:{}/new.npy",
    "lancedb": "lancedb:{}/base/new",
    "embedded": "qdrant:{}/storage/new",
    "edge": "qdrant-edge:{}/new",
}
_HOLDER = """
import os, sys
from contextlib import ExitStack
from vecmigrate import open_sink, open_updater
from vecmigrate.connector import TargetSpec
from vecmigrate.connector.registry import hold
how, uri, spec = sys.argv[1:]
spec = TargetSpec.model_validate_json(spec)
with ExitStack() as stack:
    if how == "sink":
        print(stack.enter_context(open_sink(uri, spec)).checkpoint(), flush=True)
    else:
        stack.enter_context(hold(uri) if how == "held" else open_updater(uri, spec.provenance))
        print("held", flush=True)
    sys.stdin.read()
    os._exit(9)
"""


def batch(*ids: int) -> VectorBatch:
    rows = np.repeat(np.array(ids)[:, None] + 1, DIMENSION, axis=1).astype(np.float32)
    return VectorBatch(np.array(ids), rows, [{"text": f"point {n}"} for n in ids])


@dataclass
class Target:
    """A target that is not there yet."""

    store: str
    folder: Path
    uri: str
    server: Place | None = None

    def make(self) -> None:
        with open_sink(self.uri, SPEC) as sink:
            sink.write(batch(0, 1, 2))
            sink.finish()

    def lease(self) -> dict[str, Any] | None:
        if self.server is not None:
            with self.server.client() as client:
                name = self.uri.partition("?")[0].rpartition("/")[2]
                return (client.get_collection(name).config.metadata or {}).get(LEASE_KEY)
        found = list(self.folder.rglob("*.vecmigrate-lease"))
        assert len(found) <= 1
        return json.loads(found[0].read_text()) if found else None

    def change(self, **changes: Any) -> None:
        """Change the lease as another machine would."""
        lease = self.lease()
        assert lease is not None
        if self.server is not None:
            with self.server.client() as client:
                name = self.uri.partition("?")[0].rpartition("/")[2]
                client.update_collection(name, metadata={LEASE_KEY: {**lease, **changes}})
            return
        (path,) = self.folder.rglob("*.vecmigrate-lease")
        # In one step, as it is read meanwhile.
        made = path.with_name(f"{path.name}.another")
        made.write_text(json.dumps({**lease, **changes}))
        made.replace(path)

    @contextmanager
    def in_use(self, how: str) -> Iterator[tuple[Forked, str]]:
        """Another process at work on it until its input ends, and what that said first.

        Parameters
        ----------
        how
            "sink", "updater" or "held".
        """
        with Forked("-c", _HOLDER, how, self.uri, SPEC.model_dump_json()) as process:
            try:
                yield process, process.stdout.readline().strip()
            finally:
                process.kill()

    def left_behind(self, how: str) -> str:
        """What a process said that was then killed at work on it."""
        with self.in_use(how) as (process, said):
            process.kill()
            process.wait()
        assert self.lease() is not None
        return said


@contextmanager
def open_target(store: str, folder: Path) -> Iterator[Target]:
    with ExitStack() as stack:
        if store in SERVERS:
            server = stack.enter_context(open_place(store, folder))
            yield Target(store, folder, server.uri(server.name()), server)
        else:
            yield Target(store, folder, _PATHS[store].format(folder))
