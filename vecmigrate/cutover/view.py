"""What a reader of a collection gets."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from vecmigrate.description import EncoderIdentity, Metric
from vecmigrate.registry import open_source


class ReaderView(BaseModel):
    """A collection as its readers meet it.

    Attributes
    ----------
    encoder
        Whose query vectors it answers; None where nobody recorded that.
    """

    model_config = ConfigDict(frozen=True)

    collection: str
    count: int
    dimension: int
    metric: Metric
    index_type: str
    encoder: EncoderIdentity | None


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
        count=found.count,
        dimension=found.dimension,
        metric=found.metric,
        index_type=found.index_type,
        encoder=recorded or encoder,
    )
