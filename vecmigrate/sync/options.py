"""What a sync is asked for, and what it did."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vecmigrate.cutover.options import CutoverOptions
from vecmigrate.encoders.embedded import Embedded
from vecmigrate.encoders.options import ENCODER_HELP, BudgetText
from vecmigrate.migration.reembed import OnMissingText
from vecmigrate.points.batch import PointId
from vecmigrate.points.screening import BadVectorPolicy, OnBadVector
from vecmigrate.runtime.durations import Duration, parse_duration
from vecmigrate.runtime.options import OnLine, Options, PointsHeld, Share
from vecmigrate.runtime.settling import SETTLE
from vecmigrate.state.scan import ChangedBy, FoundBy


class ChangeOptions(Options):
    """How changes are found and carried over, as a job's file may say it too."""

    changed_by: Annotated[str, OnLine(metavar="hash|ids|FIELD")] = Field(
        default="hash",
        description="How to detect changes: `hash` compares contents; `ids` finds arrivals and "
        "disappearances alone; or a payload field with the time of change.",
    )
    overlap: Duration = Field(
        default="10m",
        description="How long a change may take to become visible: with a field in --changed-by, "
        "points are read again from this long before the latest time that was seen. 0: trust the "
        "field.",
    )
    full_every: Annotated[int, Field(ge=1)] = Field(
        default=50,
        description="With a field in --changed-by: of so many runs one compares all points.",
    )
    overwrite: bool = Field(
        default=False,
        description="Points at the target that are not known to be vecmigrate's: replace them with "
        "what the source has, delete those that the source does not have. Default: stop before "
        "the first write, and name them.",
    )
    shared_target: bool = Field(
        default=False,
        description="Others write to the target too: leave their points alone, and do not bring "
        "back what they deleted, even if it changes. Later runs know it.",
    )
    max_vanished: Share = Field(
        default=0.5, description="Refuse if a larger share of the points vanished."
    )
    reembed_budget: Annotated[BudgetText, OnLine(metavar="N|'N tokens'")] = Field(
        default=None,
        description="On each run, re-embed the most valuable translated points, up to so many "
        "texts, or as `20000 tokens`.",
    )
    queries: Path | None = Field(
        default=None,
        description="Recent queries: what they find is worth more to re-embed. .npy under the new "
        "encoder, or JSON lines with texts.",
    )

    @property
    def finding(self) -> ChangedBy:
        """How changes are found."""
        return ChangedBy(self.changed_by, parse_duration(self.overlap), self.full_every)

    @property
    def budget(self) -> str | None:
        """The budget of re-embedding, as text."""
        return None if self.reembed_budget is None else str(self.reembed_budget)

    @model_validator(mode="after")
    def _one_rule_for_others_points(self) -> Self:
        if self.overwrite and self.shared_target:
            raise ValueError("--overwrite and --shared-target exclude each other")
        return self


class SyncOptions(ChangeOptions):
    """Options of :func:`sync`."""

    keep_anchors: Path | None = Field(
        default=None, description="The anchor file that the target was migrated with, if it was."
    )
    encoder: str | None = Field(
        default=None,
        description="New encoder, which makes the vectors of new and changed points, and of those "
        f"that a budget re-embeds; with --back the old one: {ENCODER_HELP}",
    )
    price_per_million_tokens: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="Price of a million tokens, in any currency."
    )
    on_missing_text: OnMissingText = Field(
        default=OnMissingText.FAIL,
        description="With --encoder and no --translator, points without a text, or with one that "
        "the encoder does not take: refuse, or leave out; with one they are translated.",
    )
    back: bool = Field(
        default=False,
        description="After a cutover: bring what changed at SOURCE, which readers have now, to "
        "TARGET, which they had before, so that a rollback loses nothing. Vectors come from "
        "--encoder, or from a map that is fitted from --keep-anchors.",
    )
    on_bad_vector: BadVectorPolicy = OnBadVector.FAIL
    source_moved: bool = Field(
        default=False,
        description="The source is what the target was written from, under another name.",
    )
    batch_size: PointsHeld = 4096
    dry_run: bool = Field(default=False, description="Show what would change; change nothing.")

    @model_validator(mode="after")
    def _budget_has_encoder(self) -> Self:
        if self.back:
            others = self.overwrite or self.shared_target or self.reembed_budget is not None
            if others or self.changed_by != "hash":
                raise ValueError(
                    "--back excludes --overwrite, --shared-target, --reembed-budget and "
                    "--changed-by"
                )
            return self
        if self.reembed_budget is not None and self.encoder is None:
            raise ValueError("--reembed-budget needs --encoder")
        return self


class InStepOptions(CutoverOptions):
    """Options of :func:`cut_over_in_step`."""

    catch_up: bool = Field(
        default=False,
        description="Bring what changes at the source before and after the switch, so that readers "
        "find it.",
    )
    translator: Path | None = Field(
        default=None, description="With --catch-up: the translator file of the migration."
    )
    encoder: str | None = Field(
        default=None,
        description="With --catch-up: new encoder, which makes the vectors of new and changed "
        "points.",
    )
    keep_anchors: Path | None = Field(
        default=None,
        description="With --catch-up: the anchor file of the migration, if it had one.",
    )
    changed_by: Annotated[str, OnLine(metavar="hash|ids|FIELD")] = Field(
        default="hash", description="With --catch-up: how to detect changes, as in `sync`."
    )
    settle: Share = Field(
        default=SETTLE,
        description="With --catch-up: switch once a pass finds no more than this share of the "
        "points changed, or no more than 100 points.",
    )

    @model_validator(mode="after")
    def _catching_up_has_translator(self) -> Self:
        if self.catch_up and self.translator is None and self.encoder is None:
            raise ValueError("--catch-up needs --translator or --encoder")
        if not self.catch_up and (self.translator or self.encoder or self.keep_anchors):
            raise ValueError("--translator, --encoder and --keep-anchors need --catch-up")
        return self


class SyncResult(BaseModel):
    """What a sync did, or would do.

    Attributes
    ----------
    arrived, changed, vanished
        Points written that were not there, written over, and deleted.
    adopted
        Points that were at the target already as they should be, and are known as ours now.
    left_alone
        Points of the source that somebody else has written at the target.
    skipped_ids
        Points left out for a bad vector, or without a text that the encoder takes.
    refused_ids
        Points whose text the encoder did not take: left out, or translated.
    passed_over
        Points that others deleted, or took the vector from, while it was written in place; the
        next sync looks at them.
    reembedded
        Points that got the new encoder's own vector by the budget, or as queries had bought it.
    native
        Points among those that arrived or changed that got it.
    compared
        With ``dry_run``: points at the target that the ledger does not know, to be compared.
    translated, encoded
        Points of ours at the target after the run.
    count
        Points at the target after the run, others' included.
    found_by
        How changes were found.
    embedded
        What embedding texts took; None if none was to be.
    """

    model_config = ConfigDict(frozen=True)

    source: str
    target: str
    arrived: int = 0
    changed: int = 0
    vanished: int = 0
    adopted: int = 0
    left_alone: int = 0
    skipped_ids: tuple[PointId, ...] = ()
    refused_ids: tuple[PointId, ...] = ()
    passed_over: int = 0
    reembedded: int = 0
    native: int = 0
    compared: int = 0
    translated: int = 0
    encoded: int = 0
    count: int = 0
    dry_run: bool = False
    found_by: FoundBy
    embedded: Embedded | None = None
    finished_at: str
    seconds: float

    @property
    def wrote(self) -> int:
        """Points of the target that were changed."""
        return self.arrived + self.changed + self.vanished + self.reembedded

    def counts(self) -> dict[str, int]:
        """Return the points by what was done with them, as a record of the run keeps it."""
        return {
            "arrived": self.arrived,
            "changed": self.changed,
            "vanished": self.vanished,
            "reembedded": self.reembedded,
            "left_alone": self.left_alone,
            "skipped": len(self.skipped_ids),
        }
