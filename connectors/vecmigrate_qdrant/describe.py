"""What a collection says of itself."""

from __future__ import annotations

from pydantic import JsonValue
from qdrant_client import models

from vecmigrate.connector import (
    UNFINISHED,
    CollectionDescription,
    IdKind,
    InputError,
    StoreURI,
    VecmigrateError,
    WriteError,
    detect_id_kind,
    detect_text_field,
    name_some,
)
from vecmigrate_qdrant.access.base import Access
from vecmigrate_qdrant.indexing import with_own_threshold
from vecmigrate_qdrant.limits import Limits
from vecmigrate_qdrant.marks import State, mark_of, settled, vector_marks
from vecmigrate_qdrant.points import UNNAMED, Only, Shape, Wanted, dense_params, other_vectors
from vecmigrate_qdrant.reading import Reader
from vecmigrate_qdrant.settings import METRICS, forbids_indexing, index_type, read_settings
from vecmigrate_qdrant.shard_keys import (
    is_sharded_by_key,
    key_names,
    read_key_names,
    read_shard_keys,
)

SAMPLE_SIZE = 100
# If a collection does not allow to count exactly: a page of ids is read at the cost of a request.
COUNTED_AT_ONCE = 10_000


def existing_collection(access: Access, name: str) -> models.CollectionInfo:
    """Return what Qdrant says of a collection.

    Raises
    ------
    InputError
        If it is not there, naming those that are.
    """
    if access.exists(name):
        return access.info(name)
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
    text_field: str | None = None,
    notes: tuple[str, ...] = (),
    shard_keys: list[JsonValue] | None = None,
) -> CollectionDescription:
    """Describe a collection by its configuration, its count and a sample of its points.

    Parameters
    ----------
    text_field
        Taken if the URI names none. If the sample lacks the field, it is guessed.
    shard_keys
        What :func:`read_shard_keys` returned, if that is known already.
    """
    text_field = uri.options.get("text", text_field)
    info = with_own_threshold(settled(access.info(collection), vector))
    points = access.points(collection, Shape.of(info.config.params, vector))
    limits = Limits.of(info)
    sample = points.scroll(limits.page_size(SAMPLE_SIZE), None, Wanted(vectors=False)).batch
    payloads = sample.each_payload()
    # A server gives the fields of a payload in an order of its own.
    fields = tuple(sorted({name for payload in payloads for name in payload}))
    params = dense_params(info.config.params)[vector]
    settings = read_settings(info, vector, embedded=not access.indexed)
    keyed = is_sharded_by_key(info.config.params)
    keys = None
    if keyed:
        settings["shard_keys"] = shard_keys or read_shard_keys(access, collection)
        keys = key_names(settings["shard_keys"])
    reader = Reader(points, keys, collection, limits=limits)
    lacking = _count_lacking(reader, vector) if vector != UNNAMED else 0
    mark = mark_of(info, vector)
    return CollectionDescription(
        uri=str(uri),
        store="qdrant",
        index_type=index_type(info, vector, embedded=not access.indexed),
        count=reader.count(COUNTED_AT_ONCE),
        without_vector=lacking,
        dimension=params.size,
        metric=METRICS[params.distance],
        id_kind=IdKind.STRING if keyed else detect_id_kind(sample.ids.tolist()),
        keyed_ids=keyed,
        payload_fields=fields,
        text_field=text_field if text_field in fields else detect_text_field(payloads),
        settings=settings,
        notes=(*access.notes, *_notes(info, vector, lacking, embedded=access.embedded), *notes),
        provenance=mark.provenance if mark is not None else None,
        multivector=params.multivector_config is not None,
        in_place=vector in vector_marks(info),
        vector=vector or None,
        other_vectors=tuple(other_vectors(info.config.params, vector)),
    )


def count_points(access: Access, collection: str, only: Only | None = None) -> int:
    """Count the points of a collection exactly, within its own limits."""
    info = access.info(collection)
    keys = read_key_names(access, collection) if is_sharded_by_key(info.config.params) else None
    ids_alone = access.points(collection, Shape(UNNAMED, 1))
    return Reader(ids_alone, keys, collection, limits=Limits.of(info)).count(COUNTED_AT_ONCE, only)


def _notes(info: models.CollectionInfo, vector: str, lacking: int, *, embedded: bool) -> list[str]:
    notes = []
    mark = mark_of(info, vector)
    if mark is not None and mark.state is State.WRITING:
        notes.append(f"{UNFINISHED}: a vecmigrate run is writing it, or was stopped while it did")
    elif not embedded and (reason := forbids_indexing(info)):
        notes.append(f"its own settings forbid indexing ({reason}): searches compare all points")
    if lacking and vector in vector_marks(info):
        notes.append(f"{lacking:,} points have no vector {vector!r}")
    elif lacking:
        notes.append(
            f"{lacking:,} points have no vector {vector!r}: a migration to a new Qdrant collection "
            "copies what else they have, one in place leaves them alone, anything else passes over "
            "them"
        )
    return notes


def _count_lacking(reader: Reader, vector: str) -> int:
    try:
        return reader.count(COUNTED_AT_ONCE, Only(lacking=vector))
    except (InputError, WriteError):
        return 0  # A server before 1.13 does not know the condition.
