"""How closely a verification looks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Self, TypeAlias

from pydantic import Field, model_validator

from vecmigrate.encoders.options import ENCODER_HELP
from vecmigrate.migration.reembed import OnMissingText
from vecmigrate.points.screening import OnBadVector
from vecmigrate.runtime.options import Options, PointsHeld, Seed, Share

SAMPLE = 1000
PROBES = 200

Progress: TypeAlias = Callable[[int], None]
"""Called with the number of points just read."""


class CompareOptions(Options):
    """How closely a verification looks, as a job's file may say it too."""

    full: bool = Field(default=False, description="Compare every vector with its re-translation.")
    sample: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description=f"Compare this many, drawn at random; default: {SAMPLE:,}."
    )
    queries: Path | None = Field(
        default=None,
        description=".npy of queries under the new encoder, to measure the target's index with; "
        "default: points of its own.",
    )
    min_index_recall: Share | None = Field(
        default=None,
        description="Fail if the index finds less of the true top 10; default: only warn.",
    )

    max_pending: Share = Field(
        default=0.01,
        description="Fail if a larger share of the points changed at the source since the target "
        "was brought in step; these points are left out of all other checks.",
    )

    @model_validator(mode="after")
    def _full_or_sample(self) -> Self:
        if self.full and self.sample is not None:
            raise ValueError("--full and --sample exclude one another")
        return self

    @property
    def encoded(self) -> int:
        """How many texts are embedded again, at most."""
        return self.sample or SAMPLE

    @property
    def drawn(self) -> int | None:
        """How many vectors are compared; None for all of them."""
        return None if self.full else self.sample or SAMPLE


class VerifyOptions(CompareOptions):
    """Options of :func:`verify`."""

    keep_anchors: Path | None = Field(
        default=None, description="The anchor file that the target was written with, if it was."
    )
    on_bad_vector: OnBadVector = Field(
        default=OnBadVector.FAIL,
        description="As the migration had it: skip expects bad vectors to be left out.",
    )
    encoder: str | None = Field(
        default=None,
        description="New encoder: embed the texts of some points whose vectors are its own again, "
        f"and compare: {ENCODER_HELP}",
    )
    price_per_million_tokens: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="Price of a million tokens, in any currency."
    )
    on_missing_text: OnMissingText = Field(
        default=OnMissingText.FAIL,
        description="As the migration had it: skip expects points without a text, or with one "
        "that the encoder did not take, to be left out.",
    )
    dead_letters: Path | None = Field(
        default=None,
        description="The file of points that the target's store had refused; they are expected to "
        "be missing.",
    )
    batch_size: PointsHeld = 4096
    seed: Seed = 0

    @property
    def skips(self) -> bool:
        """True if the migration was allowed to leave points out."""
        return self.on_missing_text == OnMissingText.SKIP or self.on_bad_vector == OnBadVector.SKIP
