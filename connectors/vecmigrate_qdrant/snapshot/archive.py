"""Unpacks a snapshot: a tar of a shard or of a whole collection, each segment a tar within it."""

from __future__ import annotations

import mmap
import os
import re
import shutil
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

from vecmigrate.connector import InputError, told_as

CONFIG, INDEXES, KEYS, VERSION = (
    "config.json",
    "payload_index.json",
    "shard_key_mapping.json",
    "version.info",
)
REPLICAS, APPLIED, LOG, SEGMENTS = "replica_state.json", "applied_seq.json", "wal", "segments"
_END = 2 * 512  # A tar ends with two empty blocks.
_MARGIN = 64 * 2**20
_SEGMENT = re.compile(r"[0-9a-f-]+")
_WITHIN = (("snapshot", "files"), ("files",))


def check_room(folder: Path, size: int, what: object) -> None:
    """Raise :class:`InputError` unless ``size`` bytes of ``what`` have room in a folder."""
    free = shutil.disk_usage(folder).free
    if free < size + _MARGIN:
        raise InputError(
            f"{folder} has no room for {what}: {free >> 20:,} MiB are free, and "
            f"{(size + _MARGIN) >> 20:,} MiB are needed",
            remedy="Make room, or set TMPDIR to a folder on a larger disk.",
        )


def check_holes(folder: Path, what: object) -> None:
    """Raise :class:`InputError` unless what is in a folder can be read without filling its disk.

    The engine's files are mostly holes. A disk in memory gives them room once they are read, and a
    full one ends the process without a word.
    """
    if _holes_take_room(folder):
        found = (path.stat() for path in folder.rglob("*") if path.is_file())
        check_room(folder, sum(max(0, f.st_size - 512 * f.st_blocks) for f in found), what)


def _holes_take_room(folder: Path) -> bool:
    with tempfile.TemporaryFile(dir=folder) as file:
        file.truncate(mmap.PAGESIZE)
        with mmap.mmap(file.fileno(), mmap.PAGESIZE) as page:
            page.read(1)
            return os.fstat(file.fileno()).st_blocks > 0


def unpack(file: Path, folder: Path) -> None:
    """Unpack what is needed of a snapshot to read its points; a shard's becomes shard 0.

    Raises
    ------
    InputError
        If it is no snapshot, truncated, or a member would leave the folder; or there is no room.
    """
    with told_as(
        InputError,
        f"the snapshot {file} cannot be unpacked",
        "Check that it is a whole file, as by its checksum, and that TMPDIR has room.",
        (tarfile.TarError, OSError, EOFError),
    ):
        size = file.stat().st_size
        check_room(folder, size, file)
        with tarfile.open(file, "r:") as archive:
            for member in archive:
                _unpack_member(archive, member, folder)
            # Python takes a tar that ends between two members for whole.
            if archive.offset + _END > size:
                raise tarfile.ReadError("it is truncated")


def _unpack_member(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    path = _safe(member)
    parts = path.parts if path.parts[:1] and path.parts[0].isdecimal() else ("0", *path.parts)
    if len(path.parts) == 1 and path.name in (CONFIG, INDEXES, KEYS, VERSION):
        _extract(archive, member, folder, path)
    elif parts[1:] in ((REPLICAS,), (APPLIED,)) or parts[1:2] == (LOG,):
        # The log holds what was written while the segments were read; the engine applies it.
        _extract(archive, member, folder, PurePosixPath(*parts))
    elif parts[1:2] == (SEGMENTS,) and len(parts) > 2 and member.isreg():
        name = parts[2].removesuffix(".tar")
        if not _SEGMENT.fullmatch(name):
            return  # A hidden folder, which the server passes over as well.
        within = PurePosixPath(parts[0], SEGMENTS, name)
        if len(parts) > 3:
            _extract(archive, member, folder, within / _stripped(PurePosixPath(*parts[3:])))
            return
        with tarfile.open(fileobj=archive.extractfile(member), mode="r:") as segment:
            for inner in segment:
                path = _safe(inner)
                if inner.isreg():
                    _extract(segment, inner, folder, within / _stripped(path))


def _safe(member: tarfile.TarInfo) -> PurePosixPath:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or not (member.isreg() or member.isdir()):
        raise tarfile.ReadError(f"its member {member.name!r} is no file of a snapshot")
    return path


def _stripped(path: PurePosixPath) -> PurePosixPath:
    for begin in _WITHIN:
        if path.parts[: len(begin)] == begin:
            return PurePosixPath(*path.parts[len(begin) :])
    return path


def _extract(
    archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, path: PurePosixPath
) -> None:
    archive.extract(member.replace(name=str(path), deep=False), folder, filter="data")
