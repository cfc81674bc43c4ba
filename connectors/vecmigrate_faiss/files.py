"""Makes an index file, its sidecar and its companion from spooled points."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import compress
from pathlib import Path

from vecmigrate.connector import Metric, Provenance, sync_path
from vecmigrate_faiss.companion import Companion
from vecmigrate_faiss.index.base import FaissIndex
from vecmigrate_faiss.index.build import Carried, Points, build_index, flat_head, flat_tail
from vecmigrate_faiss.index.kinds import IndexSettings
from vecmigrate_faiss.sidecars.jsonl import sidecar_lines
from vecmigrate_faiss.spool import Spool

_BUFFER = 1 << 20


def build_files(
    spool: Spool,
    settings: IndexSettings,
    metric: Metric,
    text_field: str | None,
    provenance: Provenance | None,
    *,
    empty: FaissIndex | None = None,
    notes: tuple[str, ...] = (),
    carried: Carried | None = None,
) -> None:
    """Write the three files into the spool's directory, all of them durable.

    Parameters
    ----------
    empty
        Of a Flat index whose head the spool was told of: its file becomes the index.
    notes
        That the collection has already.
    carried
        The index that this one replaces.
    """
    spool.sync()
    kept = spool.kept()
    points = Points(spool.vectors(), None if spool.named else spool.ids(), kept)
    made: tuple[str, ...] = ()
    if empty is not None and kept is None and (settings.id_map or points.are_numbered()):
        tail = flat_tail(empty, points.count, points.id_chunks())
        spool.turn_into_index(flat_head(empty, points.count), tail)
    else:
        made = build_index(spool.index, points, settings, metric, carried)
    has_sidecar = spool.named or spool.has_payloads
    if has_sidecar:
        ids, payloads = spool.id_lines(), spool.payload_lines()
        if kept is not None:
            ids, payloads = compress(ids, kept), compress(payloads, kept)
        _write_lines(spool.sidecar, sidecar_lines(ids, payloads, numbered=spool.named))
    companion = Companion(
        dimension=points.vectors.shape[1],
        cosine=metric is Metric.COSINE,
        sidecar=has_sidecar,
        text_field=text_field,
        notes=tuple(dict.fromkeys((*notes, *made))),
        provenance=provenance,
    )
    _write_lines(spool.companion, [companion.model_dump_json(indent=2).encode(), b"\n"])
    sync_path(spool.index)


def _write_lines(path: Path, lines: Iterable[bytes]) -> None:
    with path.open("wb", _BUFFER) as file:
        file.writelines(lines)
    sync_path(path)
