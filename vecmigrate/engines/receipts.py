"""Receipts: what a worker says of a partition that it has written to the target itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from vecmigrate.io.atomic import part_file
from vecmigrate.points.batch import PointId


class Receipt(BaseModel):
    """A partition that is in the target.

    Attributes
    ----------
    read
        Points with usable vectors.
    written, id_total
        The fingerprint of their ids.
    cursor
        The last batch's; None where there was none.
    skipped_ids
        Points left out for a bad vector.
    """

    read: int
    written: int
    id_total: int
    kept_anchors: int
    cursor: str | None
    skipped_ids: list[PointId]


def write_receipt(path: Path, receipt: Receipt) -> None:
    """Write a receipt; raises :class:`WriteError` where the disk refuses."""
    with part_file(path) as file:
        file.write(receipt.model_dump_json().encode())


def read_receipt(path: Path) -> Iterator[Receipt]:
    """Yield the receipt."""
    yield Receipt.model_validate_json(path.read_bytes())
