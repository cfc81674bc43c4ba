"""Batches as rows of Parquet files that vecmigrate makes."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from vecmigrate.connector import TargetSpec, VectorBatch
from vecmigrate_files.ids import id_column, id_type
from vecmigrate_files.marks import ParquetMark
from vecmigrate_files.payload_reading import REST, json_type
from vecmigrate_files.payload_writing import PayloadWriter, infer_fields
from vecmigrate_files.place import Place
from vecmigrate_files.settings import Settings
from vecmigrate_files.vectors import vector_array


def target_schema(
    place: Place, spec: TargetSpec, settings: Settings, mark: ParquetMark, first: VectorBatch
) -> Any:
    """Choose the columns: those of a Parquet source, then those that the first batch shows."""
    known = {field.name: field.type for field in settings.fields()}
    types: dict[str, Any] = {mark.id: None, mark.vector: None}
    if {settings.id, settings.vector} <= known.keys():
        renamed = {settings.id: mark.id, settings.vector: mark.vector}
        types = {renamed.get(name, name): type_ for name, type_ in known.items()}
    else:
        types.update({n: t for n, t in known.items() if n not in types})
    types[mark.id] = id_type(first.ids, known.get(settings.id), place.uri)
    types[mark.vector] = pa.list_(pa.float32(), spec.dimension)
    types.pop(REST, None)
    fields = [pa.field(name, _writable(type_)) for name, type_ in types.items()]
    inferred = infer_fields(first.each_payload(), {*types, REST})
    return pa.schema(
        [*fields, *inferred, pa.field(REST, pa.string())],
        metadata=mark.metadata(),
    )


class RowWriter:
    """Makes Arrow record batches of batches.

    Parameters
    ----------
    schema
        The file's.

    Attributes
    ----------
    schema : pyarrow.Schema
        The record batches', without dictionaries.
    """

    def __init__(self, place: Place, schema: Any, mark: ParquetMark) -> None:
        self._place, self._mark = place, mark
        self.schema = pa.schema([pa.field(f.name, _decoded(f.type)) for f in schema])
        taken = {mark.id, mark.vector, REST}
        self._payloads = PayloadWriter([f for f in self.schema if f.name not in taken])

    def rows(self, batch: VectorBatch) -> Any:
        """Return an Arrow record batch.

        Raises
        ------
        MismatchError
            Where the file cannot hold an id, or a payload is not JSON.
        """
        type_ = self.schema.field(self._mark.id).type
        columns = {
            self._mark.id: id_column(batch.ids, type_, self._place.uri),
            self._mark.vector: vector_array(batch.vectors),
            **self._payloads.columns(batch.each_payload(), batch.ids),
        }
        return pa.record_batch([columns[name] for name in self.schema.names], schema=self.schema)


def _decoded(type_: Any) -> Any:
    return type_.value_type if pa.types.is_dictionary(type_) else type_


def _writable(type_: Any) -> Any:
    """Return the type, without dictionaries inside of lists and structs."""
    return json_type(type_) if pa.types.is_nested(type_) and "dictionary<" in str(type_) else type_
