"""The engine of a Ray cluster: workers translate partitions, the driver writes them in order."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from vecmigrate.connector.source import Source
from vecmigrate.errors import MissingDependencyError, UnreachableError, WriteError, reason_of
from vecmigrate.io.atomic import TEMPORARY
from vecmigrate.migration.engines.base import Conversion, Engine
from vecmigrate.migration.engines.part_stream import PartStream
from vecmigrate.migration.engines.partitions import (
    JointTarget,
    PartBatch,
    PartitionWork,
    Receipt,
    move_partition,
    partitioned,
    read_part,
    read_receipt,
    translate_partition,
)
from vecmigrate.migration.engines.permit import PREFIX
from vecmigrate.migration.translate import Spent
from vecmigrate.migration.write import Writing, Written
from vecmigrate.points.batch import VectorBatch
from vecmigrate.points.checksums import IdFingerprint
from vecmigrate.runtime.waiting import current_patience
from vecmigrate.state.ledger import MovedPoints

T = TypeVar("T")

PARTITION_BATCHES = 16
"""Batches in a partition; one if texts are embedded, which takes much longer."""
PART_FORM = 4
"""What is in the files of parts and receipts; those of another form are made anew."""
RETRIES = 3
"""How often a partition is tried again whose worker died."""


class RayEngine(Engine):
    """Translates on Ray, by tasks that take a partition of the source each.

    A task writes what it has translated to a part file, and the driver writes these to the target,
    in the source's order, as ever. Where several processes may write to the target at once, a task
    does so itself, and its part file is a receipt. At most two parts a worker are there at a time.
    A driver that was killed finds those that it has not taken.

    Parameters
    ----------
    workers
        Tasks at once; None for as many as the cluster has CPUs.
    address
        Of the cluster; None for RAY_ADDRESS, or else one that is started and ended here.
    parts
        A folder that all workers see; None for the job's own, beside its state.
    partition_batches
        Batches in a partition, about; default: :data:`PARTITION_BATCHES`.
    """

    converts_here = False

    def __init__(
        self,
        *,
        workers: int | None = None,
        address: str | None = None,
        parts: Path | None = None,
        partition_batches: int | None = None,
    ) -> None:
        self._workers = workers
        self._address = address
        self._parts = parts
        self._partition_batches = partition_batches

    def check(self, source: Source) -> None:
        import_ray()
        partitioned(source).partitions(1, batches=1)
        check_address(self._address)

    @contextmanager
    def translated(self, work: Conversion) -> Iterator[Iterator[VectorBatch]]:
        with self._stream(work, work.identity, translate_partition, read_part) as parts:
            yield _batches(parts, work)

    @contextmanager
    def written(self, work: Conversion, writing: Writing) -> Iterator[Iterator[Written]]:
        checkpoint = writing.sink.checkpoint() if writing.joint() else None
        token = writing.sink.share() if checkpoint is not None else None
        if token is None:
            with super().written(work, writing) as done:
                yield done
            return
        target = JointTarget(writing.target, writing.spec, token, writing.keeper)
        # A receipt is of this very collection.
        identity = json.dumps([work.identity, checkpoint])
        with self._stream(work, identity, move_partition, read_receipt, target) as receipts:
            yield _told(receipts, work)

    @contextmanager
    def _stream(
        self,
        work: Conversion,
        identity: str,
        do: Callable[..., bool],
        read: Callable[[Path], Iterator[T]],
        *more: object,
    ) -> Iterator[Iterator[T]]:
        """Have ``do(shared, converter, *more, token, path, permit)`` done for each partition."""
        ray, converter = import_ray(), work.converter.for_workers()
        size = self._partition_batches or (1 if converter.embeds else PARTITION_BATCHES)
        with (
            self._folder(work, identity, size) as folder,
            joined_cluster(self._address, self._workers) as capacity,
        ):
            gpus = int(converter.embeds and ray.cluster_resources().get("GPU", 0) >= 1)
            task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=RETRIES)(do)
            # Once, for all machines; a task is given but references.
            common = [ray.put(value) for value in (_shared(work), converter, *more)]
            stream = PartStream(
                ray,
                submit=lambda token, path, permit: task.remote(*common, token, path, permit),
                read=read,
                tokens=partitioned(work.source).partitions(
                    work.batch_size, batches=size, cursor=work.cursor
                ),
                path_of=lambda token: folder / f"{_digest(token)}.part",
                capacity=capacity,
                announce=work.announce,
                keep=converter.embeds,
            )
            try:
                yield stream.items()
            finally:
                stream.stop()
            if stream.found:
                work.announce(f"{stream.found} partitions were done by an earlier run")

    @contextmanager
    def _folder(self, work: Conversion, identity: str, size: int) -> Iterator[Path]:
        """A folder for parts; the job's own is left for its next run if this one fails.

        Raises
        ------
        WriteError
        """
        parts = self._parts
        try:
            if work.folder is None:
                if parts is not None:
                    parts.mkdir(parents=True, exist_ok=True)
                folder = Path(tempfile.mkdtemp(prefix="vecmigrate-parts-", dir=parts)).absolute()
            else:
                folder = (work.folder if parts is None else parts / work.folder.name).absolute()
                of = [PART_FORM, identity, work.batch_size, size]
                _clear(folder, _digest(json.dumps(of)), restart=work.restart)
        except OSError as error:
            raise WriteError(
                f"the folder for parts cannot be made: {error}",
                remedy="Name another one with --parts.",
            ) from error
        done = work.folder is None
        try:
            yield folder
            done = True
        finally:
            if done:
                shutil.rmtree(folder, ignore_errors=True)


def _clear(folder: Path, of_this: str, *, restart: bool) -> None:
    """Make a folder, or remove of it what is of no use to this run."""
    mark = folder / "of"
    if restart or not mark.exists() or mark.read_text() != of_this:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        mark.write_text(of_this)
    for kind in (TEMPORARY, PREFIX):
        for path in folder.glob(f"{kind}*"):
            path.unlink()


def _shared(work: Conversion) -> PartitionWork:
    return PartitionWork(
        source=work.source.describe().uri,
        directory=str(Path.cwd()),
        fingerprint=work.source.fingerprint(),
        on_bad_vector=work.on_bad_vector,
        absent=work.absent,
        batch_size=work.batch_size,
        patience=current_patience(),
    )


def _batches(parts: Iterator[PartBatch], work: Conversion) -> Iterator[VectorBatch]:
    for part in parts:
        work.skipped.ids += part.skipped
        work.spent(part.spent)
        if len(part.batch):
            yield part.batch


def _told(
    receipts: Iterator[tuple[Receipt, MovedPoints | None]], work: Conversion
) -> Iterator[Written]:
    for receipt, moved in receipts:
        work.skipped.ids += receipt.skipped_ids
        work.spent(Spent(receipt.part, receipt.texts, receipt.tokens, receipt.refused))
        if receipt.cursor is not None:
            ids = IdFingerprint(receipt.written, receipt.id_total)
            yield Written(receipt.read, ids, receipt.kept_anchors, receipt.cursor, moved)


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


LOCAL = "local"
PROBE_SECONDS = 5.0
CAPACITY_SECONDS = 5.0


def import_ray() -> Any:
    """Import Ray.

    Raises
    ------
    MissingDependencyError
    """
    # Ray sends usage reports to its makers unless told not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise MissingDependencyError(
            f"--engine ray needs a package that cannot be imported: {reason_of(error)}",
            remedy="Run: pip install 'vecmigrate[ray]'",
        ) from error
    return ray


def check_address(address: str | None) -> None:
    """Connect to the cluster's port, if one is named: Ray itself would try for many minutes.

    Raises
    ------
    UnreachableError
    """
    address = _named(address)
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), PROBE_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, error) from error


@contextmanager
def joined_cluster(address: str | None, workers: int | None) -> Iterator[Callable[[], int]]:
    """Join a cluster; yield what tells how many tasks are to run at once.

    Parameters
    ----------
    address
        As Ray has it; None for that in RAY_ADDRESS or else a cluster of this machine, ended
        afterwards. A cluster that the process is in already is used, and left as it is.
    workers
        None for as many as there are CPUs.

    Raises
    ------
    UnreachableError
        If no cluster answers or none can be started.
    """
    ray = import_ray()
    if ray.is_initialized():
        yield _capacity(ray, workers)
        return
    address = _named(address)
    # Ray prints what befalls its workers to standard output, where --json has its one object, and
    # offers no other way to turn that off. What matters comes back as a task's outcome.
    sys.modules["ray._private.worker"].__dict__["_worker_logs_enabled"] = False
    # Ray's own handler of SIGTERM would end the driver before it has saved how far it came.
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            address,
            num_cpus=workers if address == LOCAL else None,
            include_dashboard=False if address == LOCAL else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise _unreachable(address, error) from error
    finally:
        if in_main:
            signal.signal(signal.SIGTERM, handler)
    try:
        yield _capacity(ray, workers)
    finally:
        ray.shutdown()


def _named(address: str | None) -> str:
    return address or os.environ.get("RAY_ADDRESS") or LOCAL


def _unreachable(address: str, error: Exception) -> UnreachableError:
    if address == LOCAL:
        return UnreachableError(
            f"no Ray cluster can be started here: {reason_of(error)}",
            remedy="See /tmp/ray/session_latest/logs, or use --engine local.",
        )
    return UnreachableError(
        f"there is no Ray cluster at {address}: {reason_of(error)}",
        remedy="Check --ray-address and RAY_ADDRESS; without them one is started on this machine.",
    )


def _capacity(ray: Any, workers: int | None) -> Callable[[], int]:
    """Return what tells the CPUs of a cluster whose machines come and go, or ``workers``."""
    if workers is not None:
        return lambda: workers
    cpus, asked = 1, float("-inf")

    def capacity() -> int:
        nonlocal cpus, asked
        if time.monotonic() - asked > CAPACITY_SECONDS:
            cpus = max(1, int(ray.cluster_resources().get("CPU", 1)))
            asked = time.monotonic()
        return cpus

    return capacity
