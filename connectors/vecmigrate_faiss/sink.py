"""Writes an index file with its sidecar and companion."""

from __future__ import annotations

from vecmigrate.connector import (
    CollectionDescription,
    StagedSink,
    Staging,
    StoreURI,
    TargetSpec,
    VectorBatch,
    check_dimension,
    writing,
)
from vecmigrate_faiss.files import build_files
from vecmigrate_faiss.index.base import scaled_for
from vecmigrate_faiss.index.build import empty_flat, flat_head
from vecmigrate_faiss.index.kinds import IndexSettings
from vecmigrate_faiss.location import Location
from vecmigrate_faiss.source import FaissSource
from vecmigrate_faiss.spool import Spool


class FaissSink(StagedSink):
    """A new index file, built from staged points when it is finished.

    The index is the one that ``?index=`` names in FAISS's factory language, else of the source's
    kind if that is FAISS, else Flat with IDMap2. Ids that are not
    int64 go to the sidecar, the index then numbering the points. With the metric cosine, rows are
    stored with unit length under the inner product.
    """

    def __init__(self, uri: StoreURI, location: Location, spec: TargetSpec) -> None:
        self._uri = uri
        self._location = location
        self._spec = spec
        words = uri.options.get("index")
        self._settings = (
            IndexSettings.from_words(words, spec) if words else IndexSettings.for_spec(spec)
        )
        self._empty = empty_flat(self._settings, spec.dimension, spec.metric)
        beside = (location.sidecar, location.companion)
        self.staging = Staging(uri, location.index, spec, beside=beside)
        head = b"" if self._empty is None else flat_head(self._empty, 0)
        self._spool = Spool(self.staging.path, spec.dimension, head=head)

    def go_back(self, token: str) -> None:
        with writing(self._location.index):
            self.staging.clear(keep=self._spool.go_back(token))

    def write(self, batch: VectorBatch) -> None:
        check_dimension(batch, self._spec.dimension, self._uri)
        self.staging.check()
        vectors = scaled_for(self._spec.metric, batch.vectors)
        with writing(self._location.index):
            self._spool.append(batch, vectors)

    def finish(self) -> CollectionDescription:
        spool, location = self._spool, self._location
        with writing(location.index):
            build_files(
                spool,
                self._settings,
                self._spec.metric,
                self._spec.text_field,
                self._spec.provenance_as_of(self.as_of),
                empty=self._empty,
            )
        names = ((spool.sidecar, location.sidecar), (spool.companion, location.companion))
        self.staging.publish(spool.index, [(made, name) for made, name in names if made.exists()])
        self._spool.close()
        with FaissSource(self._uri, location) as source:
            return source.describe()

    def checkpoint(self) -> str:
        self.staging.check()
        with writing(self._location.index):
            return self._spool.checkpoint()

    def close(self) -> None:
        self._spool.close()
