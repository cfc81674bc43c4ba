"""Writes an index file with its sidecar and companion."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vecmigrate.connector import (
    CollectionDescription,
    Sink,
    StoreURI,
    TargetExistsError,
    TargetSpec,
    UsageError,
    VectorBatch,
    WriteError,
    check_dimension,
    sync_path,
)
from vecmigrate_faiss.files import build_files
from vecmigrate_faiss.index.base import scaled_for
from vecmigrate_faiss.index.build import empty_flat, flat_head
from vecmigrate_faiss.index.kinds import IndexSettings
from vecmigrate_faiss.location import Location
from vecmigrate_faiss.source import FaissSource
from vecmigrate_faiss.staging import Staging, remove_spent


class FaissSink(Sink):
    """A new index file, built from staged points when it is finished.

    The index is the one that ``?index=`` names in FAISS's factory language, else of the source's
    kind where that is FAISS, else Flat with IDMap2. Ids that are not
    int64 go to the sidecar, the index then numbering the points. With the metric cosine, rows are
    stored with unit length under the inner product.
    """

    def __init__(
        self,
        uri: StoreURI,
        location: Location,
        spec: TargetSpec,
        *,
        restart: bool = False,
        token: str | None = None,
    ) -> None:
        self._uri = uri
        self._location = location
        self._spec = spec
        words = uri.options.get("index")
        self._settings = (
            IndexSettings.from_words(words, spec) if words else IndexSettings.for_spec(spec)
        )
        self._empty = empty_flat(self._settings, spec.dimension, spec.metric)
        if not location.index.parent.is_dir():
            raise UsageError(
                f"{uri}: there is no directory {location.index.parent}", remedy="Create it first."
            )
        with writing(location.index):
            if token is not None and os.path.lexists(location.index):
                remove_spent(location.staging)
            _refuse_existing(location.index)
            self._staging = Staging(
                location.staging,
                spec.dimension,
                run=spec.provenance.run() if spec.provenance else None,
                restart=restart,
                token=token,
                head=b"" if self._empty is None else flat_head(self._empty, 0),
            )
            try:
                self._clear_names()
            except BaseException:
                if token is None:
                    self._staging.discard()
                self._staging.suspend()
                raise

    def write(self, batch: VectorBatch) -> None:
        check_dimension(batch, self._spec.dimension, self._uri)
        vectors = scaled_for(self._spec.metric, batch.vectors)
        with writing(self._location.staging):
            self._staging.append(batch, vectors)

    def finish(self) -> CollectionDescription:
        with writing(self._location.index):
            self._prepare()
            self._publish()
        self._staging.discard()
        with FaissSource(self._uri, self._location) as source:
            return source.describe()

    def abort(self) -> None:
        self._staging.discard()

    def checkpoint(self) -> str:
        with writing(self._location.staging):
            return self._staging.checkpoint()

    def suspend(self) -> None:
        self._staging.suspend()

    def _clear_names(self) -> None:
        """Remove what a run that was cut short while publishing left; refuse what is not ours."""
        for path in (self._location.sidecar, self._location.companion):
            if self._staging.was_publishing:
                path.unlink(missing_ok=True)
            _refuse_existing(path)
        self._staging.clear_mark()

    def _prepare(self) -> None:
        spec = self._spec
        build_files(
            self._staging,
            self._settings,
            spec.metric,
            spec.text_field,
            spec.provenance,
            empty=self._empty,
        )

    def _publish(self) -> None:
        """Give the files their names, the index last: before it, a reader sees no collection."""
        staging, location = self._staging, self._location
        _refuse_existing(location.index)
        staging.mark_publishing()
        for part, name in (
            (staging.sidecar, location.sidecar),
            (staging.companion, location.companion),
        ):
            if part.exists():
                part.replace(name)
        sync_path(location.index.parent)
        staging.index.replace(location.index)
        sync_path(location.index.parent)


def _refuse_existing(path: Path) -> None:
    if os.path.lexists(path):
        raise TargetExistsError(
            f"{path} exists", remedy="Choose another target, or move the file away."
        )


@contextmanager
def writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WriteError(
            f"{path} cannot be written: {error.strerror or error}",
            remedy="Nothing was published; free disk space or mend the permissions and run again.",
        ) from error
