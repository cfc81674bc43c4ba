"""Batches as rows of a table that vecmigrate makes."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from vecmigrate.connector import VectorBatch, check_dimension
from vecmigrate_lancedb.columns import id_column
from vecmigrate_lancedb.marks import Mark
from vecmigrate_lancedb.payload_writing import PayloadWriter
from vecmigrate_lancedb.place import Place


class RowWriter:
    """Makes Arrow tables of batches.

    Parameters
    ----------
    schema
        The table's; its payload columns are all but those that ``mark`` names.
    """

    def __init__(self, place: Place, schema: Any, mark: Mark) -> None:
        self._place, self._schema, self._mark = place, schema, mark
        taken = {mark.id, mark.vector, mark.rest}
        self._payloads = PayloadWriter([f for f in schema if f.name not in taken], mark.rest)

    def rows(self, batch: VectorBatch) -> Any:
        """Return an Arrow table with the table's schema.

        Raises
        ------
        MismatchError
            Where the vectors' dimension or the kind of the ids is not the table's.
        """
        vector_type = self._schema.field(self._mark.vector).type
        check_dimension(batch, vector_type.list_size, self._place.uri)
        columns = {
            self._mark.id: id_column(
                batch.ids, self._schema.field(self._mark.id).type, self._place.uri
            ),
            self._mark.vector: pa.FixedSizeListArray.from_arrays(
                pa.array(batch.vectors.reshape(-1)), type=vector_type
            ),
            **self._payloads.columns(batch.each_payload()),
        }
        return pa.table([columns[name] for name in self._schema.names], schema=self._schema)
