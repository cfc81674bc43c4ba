"""What a reader of a collection gets."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from vecmigrate.connector.addresses import collection_of
from vecmigrate.connector.registry import open_source
from vecmigrate.connector.uri import VECTOR, parse_uri
from vecmigrate.errors import VectorNotFoundError
from vecmigrate.points.collection import EncoderIdentity, Metric


class ReaderView(BaseModel):
    """A collection as its readers meet it.

    Attributes
    ----------
    vector
        The name by which they ask for its vectors; None if they need none.
    count, dimension, metric, index_type
        None if the collection has several vectors and nobody recorded which one they ask for.
    encoder
        Whose query vectors it answers; None where nobody recorded that.
    """

    model_config = ConfigDict(frozen=True)

    collection: str
    vector: str | None = None
    count: int | None = None
    dimension: int | None = None
    metric: Metric | None = None
    index_type: str | None = None
    encoder: EncoderIdentity | None = None


def view_of(collection: str, encoder: EncoderIdentity | None = None) -> ReaderView:
    """Open a collection and look.

    Parameters
    ----------
    encoder
        What a verification says of it, where the collection itself does not.

    Raises
    ------
    InputError, UsageError, UnreachableError
        From the store.
    """
    with open_source(collection) as source:
        found = source.describe()
    recorded = found.provenance.encoder if found.provenance else None
    return ReaderView(
        collection=collection,
        vector=found.vector,
        count=found.count,
        dimension=found.dimension,
        metric=found.metric,
        index_type=found.index_type,
        encoder=recorded or encoder,
    )


def view_before(collection: str, encoder: EncoderIdentity | None = None) -> ReaderView:
    """Look as :func:`view_of`, also if the collection has several vectors and none is named."""
    try:
        return view_of(collection, encoder)
    except VectorNotFoundError:
        if VECTOR in parse_uri(collection).options:
            raise
    return ReaderView(collection=collection, encoder=encoder)


def share_points(one: ReaderView, other: ReaderView) -> bool:
    """Tell whether two views are of two vectors of one collection."""
    same = collection_of(one.collection) == collection_of(other.collection)
    return same and one.vector != other.vector
