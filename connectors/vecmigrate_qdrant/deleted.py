"""What a Qdrant collection still holds of points that were deleted from it."""

from __future__ import annotations

from contextlib import closing

from vecmigrate.connector import Remnant, StoreURI, WriteError
from vecmigrate_qdrant.access.base import Access
from vecmigrate_qdrant.access.places import parse_place
from vecmigrate_qdrant.connect import open_access


def erase_deleted(uri: StoreURI) -> tuple[Remnant, ...]:
    """Have embedded storage overwrite deleted points; name what Qdrant's own engine keeps.

    Raises
    ------
    InputError, UsageError, UnreachableError, WriteError
    """
    location = parse_place(uri)
    with closing(open_access(location, refusal=WriteError)) as access:
        collection = access.aliases().get(location.collection, location.collection)
        if not access.indexed:
            access.overwrite_deleted(collection)
            return ()
        return (_segments(f"{access.place}/{collection}"), *_snapshots(access, collection))


def _segments(where: str) -> Remnant:
    return Remnant(
        f"segments and write-ahead log of {where}",
        "Qdrant marks points as deleted, and its optimizer writes a segment anew once a fifth of "
        "it is (deleted_threshold, vacuum_min_vector_number).",
    )


def _snapshots(access: Access, collection: str) -> tuple[Remnant, ...]:
    if access.embedded:
        return ()
    kept = access.run(lambda client: client.list_snapshots(collection))
    return tuple(
        Remnant(
            f"snapshot {snapshot.name} of {access.place}/{collection}",
            "Delete it, and make another one.",
        )
        for snapshot in kept
    )
