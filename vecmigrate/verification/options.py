"""How closely a verification looks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from vecmigrate.points.screening import OnBadVector

SAMPLE = 1000
PROBES = 200

Progress: TypeAlias = Callable[[int], None]
"""Called with the number of points just read."""


@dataclass(frozen=True, slots=True)
class VerifySettings:
    """How closely to look.

    Parameters
    ----------
    sample
        Vectors compared with their re-translation; None for all of them.
    keep_anchors
        The anchor file that the collection was written with, if it was.
    queries
        Query vectors, ``.npy``, to measure the index with; None for points of the collection.
    least_index_recall
        The check of the index fails below it; None only warns.
    batch_size
        Points held at a time.
    on_bad_vector
        As the migration had it: ``skip`` expects the source's bad vectors to be left out.
    dead_letters
        The file of points that the target's store had refused; they are expected to be missing.
    seed
        Of the sample.
    """

    sample: int | None = SAMPLE
    keep_anchors: Path | None = None
    queries: Path | None = None
    least_index_recall: float | None = None
    batch_size: int = 4096
    on_bad_vector: OnBadVector = OnBadVector.FAIL
    dead_letters: Path | None = None
    seed: int = 0
