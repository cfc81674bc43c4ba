"""What a collection says of itself."""

from __future__ import annotations

from qdrant_client import models

from vecmigrate.connector import (
    CollectionDescription,
    InputError,
    StoreURI,
    VecmigrateError,
    detect_id_kind,
    detect_text_field,
    name_some,
)
from vecmigrate_qdrant.access import Access
from vecmigrate_qdrant.marks import State, read_mark
from vecmigrate_qdrant.settings import METRICS, index_type, read_settings
from vecmigrate_qdrant.vectors import UNNAMED, dense_params, other_vectors

SAMPLE_SIZE = 100


def existing_collection(access: Access, name: str) -> models.CollectionInfo:
    """Return what Qdrant says of a collection.

    Raises
    ------
    InputError
        Where it is not there, naming those that are.
    """
    if access.run(lambda client: client.collection_exists(name)):
        return access.run(lambda client: client.get_collection(name))
    try:
        found = access.run(lambda client: client.get_collections()).collections
        names = sorted(c.name for c in found)
        remedy = f"There are: {name_some(names) or 'none'}."
    except VecmigrateError:
        remedy = "Check its name."  # A key for one collection may not list the others.
    raise InputError(f"{access.place} has no collection {name!r}", remedy=remedy)


def describe(
    access: Access,
    uri: StoreURI,
    collection: str,
    vector: str,
    *,
    text_field: str | None,
    notes: tuple[str, ...] = (),
) -> CollectionDescription:
    """Describe a collection by its configuration, its count and a sample of its points.

    ``text_field`` is taken where the sample has it, else the field is guessed.
    """
    info = access.run(lambda client: client.get_collection(collection))
    count = access.run(lambda client: client.count(collection, exact=True)).count
    sample, _ = access.run(
        lambda client: client.scroll(
            collection, limit=SAMPLE_SIZE, with_payload=True, with_vectors=False
        )
    )
    payloads = [r.payload or {} for r in sample]
    fields = tuple(dict.fromkeys(name for payload in payloads for name in payload))
    params = dense_params(info.config.params)[vector]
    mark = read_mark(info)
    return CollectionDescription(
        uri=str(uri),
        store="qdrant",
        index_type=index_type(info, vector, embedded=access.embedded),
        count=count,
        dimension=params.size,
        metric=METRICS[params.distance],
        id_kind=detect_id_kind([r.id if isinstance(r.id, int) else str(r.id) for r in sample]),
        payload_fields=fields,
        text_field=text_field if text_field in fields else detect_text_field(payloads),
        settings=read_settings(info, vector, embedded=access.embedded),
        notes=(*access.notes, *_notes(info, vector), *notes),
        provenance=mark.provenance if mark is not None else None,
    )


def _notes(info: models.CollectionInfo, vector: str) -> list[str]:
    notes = []
    mark = read_mark(info)
    if mark is not None and mark.state is State.WRITING:
        notes.append("unfinished: a vecmigrate run is writing it, or was stopped while it did")
    params = info.config.params
    if others := other_vectors(params, vector):
        kept = f"the vector {vector!r}" if vector != UNNAMED else "the unnamed vector"
        notes.append(f"only {kept} is carried over, not yet: {', '.join(map(repr, others))}")
    if params.sharding_method == models.ShardingMethod.CUSTOM:
        notes.append("custom sharding is not carried over: the target shards automatically")
    return notes
