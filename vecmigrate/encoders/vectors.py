"""Ready-made vectors out of a file, looked up by id.

``vectors:FILE[?option=value&...]``, where FILE is

- ``.npy``: ``(n, d)`` floats, row i being the vector of id i; memory-mapped;
- ``.npz``: an array ``ids`` of integers or strings, and an array ``vectors``;
- ``.parquet``: a column of ids and a column of lists of floats.

Floats are of 16, 32 or 64 bits. One file serves documents and queries.

=============  ===================================================================
name           the model's name in the identity; else the file's name without suffix
revision       the model's revision; else unknown, since a file does not tell
id, vector     names of the Parquet columns; else ``id`` and ``vector``
=============  ===================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vecmigrate.encoders.base import BaseEncoder, EncoderRole, EncoderSpec
from vecmigrate.encoders.options import EncoderOptions
from vecmigrate.errors import InputError, MissingIdsError, UsageError
from vecmigrate.io.vector_files import VectorFile, read_vector_file
from vecmigrate.points.batch import IdArray, PointId, are_unit_length, id_array, row_norms
from vecmigrate.points.collection import EncoderIdentity
from vecmigrate.points.ids import name_some

_SAMPLE = 1024


class _Options(EncoderOptions):
    id: str = "id"
    vector: str = "vector"
    name: str | None = None
    revision: str | None = None


def open_encoder(spec: EncoderSpec) -> FileEncoder:
    """Open a file of vectors.

    Raises
    ------
    UsageError
        If an option is not understood.
    InputError
        If the file cannot be read or holds no vectors.
    """
    options = _Options.read(spec)
    path = Path(spec.name).expanduser()
    if path.suffix != ".parquet" and {"id", "vector"} & options.model_fields_set:
        raise UsageError(
            f"{spec.text!r}: id and vector name the columns of a Parquet file",
            remedy="Leave them out for .npy and .npz.",
        )
    file = read_vector_file(path, id_column=options.id, vector_column=options.vector)
    identity = EncoderIdentity(
        name=path.stem if options.name is None else options.name,
        revision=options.revision,
        dimension=file.stored.shape[1],
        normalized=_looks_normalized(file),
    )
    return FileEncoder(path, file, identity)


class FileEncoder(BaseEncoder):
    """Looks vectors up in a file by id; texts and role do not count."""

    needs_texts = False

    def __init__(self, path: Path, file: VectorFile, identity: EncoderIdentity) -> None:
        super().__init__(identity, str(path))
        self._file = file

    def _vectors(
        self, texts: Sequence[str], ids: Sequence[PointId] | IdArray | None, role: EncoderRole
    ) -> NDArray[np.floating]:
        if ids is None:
            raise InputError(
                f"{self._origin} holds vectors by id, and no ids were given",
                remedy="Give an id with each text.",
            )
        asked = id_array(ids)
        rows = self._file.lookup.rows(asked)
        missing = asked[rows < 0].tolist()
        if missing:
            raise MissingIdsError(
                f"{self._origin} has no vector for {len(missing)} of {len(asked)} ids: "
                f"{name_some(missing)}",
                remedy="Use the file that was made from these points.",
            )
        return self._file.stored[rows]


def _looks_normalized(file: VectorFile) -> bool:
    count = len(file.stored)
    rows = np.linspace(0, count - 1, min(count, _SAMPLE), dtype=np.intp)
    sample = file.stored[rows].astype(np.float32)
    norms = row_norms(sample)
    # A zero or NaN row, which encode() refuses, tells nothing about the others.
    usable = sample[np.isfinite(norms) & (norms > 0)]
    return len(usable) > 0 and are_unit_length(usable)
