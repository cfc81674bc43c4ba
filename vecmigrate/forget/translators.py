"""Translators that hold old vectors of anchors, which are theirs to translate by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open

from vecmigrate.forget.options import Left
from vecmigrate.points.batch import Vectors

_SUFFIX = ".safetensors"
_CLOSE = 1e-4
_LANDMARKS = "landmarks"


def built_on(vectors: Sequence[Vectors], places: Iterable[Path]) -> list[Left]:
    """Name the translators that hold some of these vectors.

    Parameters
    ----------
    vectors
        ``(n, d)`` old vectors of anchors that are to be forgotten, of each anchor file.
    places
        Files and folders to search.
    """
    if not vectors:
        return []
    paths = dict.fromkeys(path.resolve() for place in places for path in _translators(place))
    return [
        Left(
            place=f"{path}, which was fitted on them and holds old vectors of theirs",
            remedy="Fit another one from the anchors that are left, and migrate with it.",
        )
        for path in paths
        if any(_holds(path, some) for some in vectors)
    ]


def _translators(place: Path) -> list[Path]:
    if place.is_dir():
        return sorted(place.rglob(f"*{_SUFFIX}"))
    # A file that is named may have any name.
    return [place] if place.is_file() else []


def _holds(path: Path, vectors: Vectors) -> bool:
    try:
        with safe_open(path, "numpy") as tensors:
            if _LANDMARKS not in tensors.keys():  # noqa: SIM118 - it is no mapping
                return False
            landmarks = tensors.get_tensor(_LANDMARKS)
    except (OSError, SafetensorError):
        return False
    if landmarks.ndim != 2 or landmarks.shape[1] != vectors.shape[1]:
        return False
    squares = (landmarks**2).sum(axis=1)
    return any(
        float((squares - 2 * landmarks @ vector + vector @ vector).min())
        <= _CLOSE * float(vector @ vector)
        for vector in vectors
    )
