"""The engine of a Ray cluster: workers translate partitions, the driver writes them in order."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vecmigrate.batches import VectorBatch
from vecmigrate.engines.base import Engine, Translation
from vecmigrate.engines.part_stream import PartStream
from vecmigrate.engines.partition import PartitionWork, partitioned, translate_partition
from vecmigrate.engines.parts import TEMPORARY
from vecmigrate.engines.ray_cluster import import_ray, joined_cluster
from vecmigrate.errors import WriteError
from vecmigrate.source import Source

PARTITION_BATCHES = 16
RETRIES = 3
"""How often a partition is tried again whose worker died."""


class RayEngine(Engine):
    """Translates on Ray.

    Each task reads a partition of the source, translates it and writes it to a part file; the
    driver reads these, in the source's order, and writes to the target as ever. At most two parts a
    worker are there at a time. A driver that was killed finds the parts that it has not written.

    Parameters
    ----------
    workers
        Tasks at once; None for as many as the cluster has CPUs.
    address
        Of the cluster; None for RAY_ADDRESS, or else one that is started and ended here.
    parts
        A folder that all workers see; None for the job's own, beside its state.
    partition_batches
        Batches in a partition, about.
    """

    def __init__(
        self,
        *,
        workers: int | None = None,
        address: str | None = None,
        parts: Path | None = None,
        partition_batches: int = PARTITION_BATCHES,
    ) -> None:
        self._workers = workers
        self._address = address
        self._parts = parts
        self._partition_batches = partition_batches

    def check(self, source: Source) -> None:
        import_ray()
        partitioned(source).partitions(1, batches=1)

    @contextmanager
    def translated(self, work: Translation) -> Iterator[Iterator[VectorBatch]]:
        folder = self._folder(work)
        ray = import_ray()
        with joined_cluster(self._address, self._workers) as workers:
            task = ray.remote(num_cpus=1, max_retries=RETRIES)(translate_partition)
            shared, translator = ray.put(_shared(work)), ray.put(work.translator)
            source = partitioned(work.source)
            stream = PartStream(
                ray,
                lambda token, path: task.remote(shared, translator, token, path),
                source.partitions(
                    work.batch_size, batches=self._partition_batches, cursor=work.cursor
                ),
                lambda token: folder / f"{_digest(token)}.arrow",
                workers,
                work.skipped,
            )
            try:
                yield stream.batches()
            finally:
                stream.stop()
        if stream.found:
            work.announce(f"{stream.found} partitions were translated by an earlier run")
        if stream.ended or work.folder is None:
            shutil.rmtree(folder, ignore_errors=True)

    def _folder(self, work: Translation) -> Path:
        """Make the folder of the parts, without what is of no use to this run.

        Raises
        ------
        WriteError
        """
        parts = self._parts
        try:
            if work.folder is None:
                if parts is not None:
                    parts.mkdir(parents=True, exist_ok=True)
                return Path(tempfile.mkdtemp(prefix="vecmigrate-parts-", dir=parts)).absolute()
            own = (work.folder if parts is None else parts / work.folder.name).absolute()
            of_this = _digest(json.dumps([work.identity, work.batch_size, self._partition_batches]))
            mark = own / "of"
            if work.restart or not mark.exists() or mark.read_text() != of_this:
                shutil.rmtree(own, ignore_errors=True)
                own.mkdir(parents=True)
                mark.write_text(of_this)
            for path in own.glob(f"{TEMPORARY}*"):
                path.unlink()
        except OSError as error:
            raise WriteError(
                f"the folder for parts cannot be made: {error}",
                remedy="Name another one with --parts.",
            ) from error
        return own


def _shared(work: Translation) -> PartitionWork:
    return PartitionWork(
        source=work.source.describe().uri,
        directory=str(Path.cwd()),
        fingerprint=work.source.fingerprint(),
        text_field=work.text_field,
        on_bad_vector=work.on_bad_vector,
        absent=work.absent,
        batch_size=work.batch_size,
    )


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
