"""Partitions of a Qdrant collection on a server; those of FAISS are in its conformance test."""

from __future__ import annotations

import uuid
from pathlib import Path

import numpy as np
import pytest
from support.qdrant.places import open_place, points

from vecmigrate import open_source
from vecmigrate.connector import PartitionedSource, PointId, UsageError

IDS: list[PointId] = [*range(0, 600, 3), *(str(uuid.UUID(int=i << 90)) for i in range(1, 100))]
BATCH = 7


@pytest.mark.parametrize("kind", ["rest", "grpc"])
def test_partitions_of_a_server_are_its_batches_read_apart(kind: str, tmp_path: Path) -> None:
    with open_place(kind, tmp_path) as place:
        name = place.name()
        place.write(name, points(IDS))
        with open_source(place.uri(name)) as source:
            assert isinstance(source, PartitionedSource)
            whole = list(source.batches(BATCH))
            tokens = list(source.partitions(BATCH, batches=4))
            assert 4 < len(tokens) < len(whole)
            apart = [b for token in tokens for b in source.partition_batches(token, BATCH)]
            assert [b.cursor for b in apart] == [b.cursor for b in whole]
            for one, other in zip(apart, whole, strict=True):
                assert one.ids.tolist() == other.ids.tolist()
                assert one.payloads == other.payloads
                np.testing.assert_array_equal(one.vectors, other.vectors)
            for done, batch in enumerate(whole, start=1):
                left = list(source.partitions(BATCH, batches=4, cursor=batch.cursor))
                assert set(left[1:]) <= set(tokens)
                rest = [b for token in left for b in source.partition_batches(token, BATCH)]
                assert [b.cursor for b in rest] == [b.cursor for b in whole[done:]]
            with pytest.raises(UsageError):
                list(source.partition_batches("[1.5, null]", BATCH))


def test_embedded_storage_says_that_it_has_no_partitions(tmp_path: Path) -> None:
    with open_place("embedded", tmp_path) as place:
        name = place.name()
        place.write(name, points(IDS[:9]))
        with open_source(place.uri(name)) as source:
            assert isinstance(source, PartitionedSource)
            with pytest.raises(UsageError, match="one process alone"):
                source.partitions(BATCH, batches=4)
