"""Options of a migration."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, InstanceOf, field_validator, model_validator

from vecmigrate.anchors import AnchorSet
from vecmigrate.encoders import Budget, Meter, MeteredEncoder, open_encoder
from vecmigrate.encoders.base import BaseEncoder
from vecmigrate.encoders.options import ENCODER_HELP, BudgetText
from vecmigrate.migration.choice import NativeShare, Order
from vecmigrate.migration.dead_letters import MAX_DEAD_LETTERS, OnBadPoint
from vecmigrate.migration.engines import Engine, EngineName, LocalEngine, open_engine
from vecmigrate.migration.reembed import OnMissingText
from vecmigrate.points.collection import EncoderIdentity
from vecmigrate.points.screening import BadVectorPolicy, OnBadVector
from vecmigrate.runtime.durations import Duration, parse_duration
from vecmigrate.runtime.options import OnLine, Options, Share, check_parsed
from vecmigrate.runtime.settling import SETTLE
from vecmigrate.state.scan import BY_IDS, ChangedBy

BATCH_SIZE = 4096
CHECKPOINT_SECONDS = 5.0
SAFETY, SPEED, RAY, EMBED = "Safety", "Speed", "Ray", "Re-embedding"
"""Groups of options in the help."""


class WriteOptions(Options):
    """How a target is written, as a job's file may say it too."""

    batch_size: Annotated[Annotated[int, Field(ge=1)], OnLine(panel=SPEED)] = Field(
        default=BATCH_SIZE, description="Vectors held at a time."
    )
    on_bad_point: Annotated[OnBadPoint, OnLine(panel=SAFETY)] = Field(
        default=OnBadPoint.FAIL,
        description="A point that the target's store refuses: stop and name it, or set it aside.",
    )
    dead_letters: Annotated[Path | None, OnLine(panel=SAFETY)] = Field(
        default=None,
        description="Where refused points go, as JSON lines; default: next to the state file.",
    )
    max_dead_letters: Annotated[Annotated[int, Field(ge=1)], OnLine(panel=SAFETY)] = Field(
        default=MAX_DEAD_LETTERS, description="Stop if the store refuses more points than this."
    )
    checkpoint_seconds: Annotated[Annotated[float, Field(ge=0)], OnLine(panel=SPEED)] = Field(
        default=CHECKPOINT_SECONDS,
        description="How often to make durable what was written, at most.",
    )
    max_rate: Annotated[Annotated[float, Field(ge=1)] | None, OnLine(panel=SPEED)] = Field(
        default=None,
        description="Points a second to write at most, for a server with readers.",
    )
    engine: Annotated[EngineName | InstanceOf[Engine], OnLine(panel=RAY)] = Field(
        default=EngineName.LOCAL, description="Where vectors are made: here, or by Ray workers."
    )
    workers: Annotated[Annotated[int, Field(ge=1)] | None, OnLine(panel=SPEED)] = Field(
        default=None,
        description="Threads that translate, or Ray tasks; default: one a processor.",
    )
    device: Annotated[str | None, OnLine(panel=SPEED)] = Field(
        default=None,
        description="cpu, or a device of torch such as cuda:1; default: a GPU if there is one.",
    )
    ray_address: Annotated[str | None, OnLine(panel=RAY)] = Field(
        default=None,
        description="Ray cluster to use; default: RAY_ADDRESS, or one started here.",
    )
    parts: Annotated[Path | None, OnLine(panel=RAY)] = Field(
        default=None,
        description="Folder that all Ray workers see; default: next to the state file.",
    )
    id_with_key: bool = Field(
        default=False,
        description="Write ids as KEY/ID if the target's store does not know the source's shard "
        "keys, within which alone the ids are unique; without this such a target is refused.",
    )
    still: Annotated[bool, OnLine(panel=SAFETY)] = Field(
        default=False,
        description="Refuse to publish if the source changed while it was read; default: bring "
        "what changed first.",
    )
    settle: Annotated[Share, OnLine(panel=SAFETY)] = Field(
        default=SETTLE,
        description="Publish once a pass over the source finds no more than this share of the "
        "points changed, or no more than 100 points.",
    )
    changed_by: Annotated[str, OnLine(metavar="hash|FIELD", panel=SPEED)] = Field(
        default="hash",
        description="How such a pass detects changes: `hash` reads and compares all points; a "
        "payload field with the time of change reads only late points if the store has an index "
        "of the field.",
    )
    overlap: Annotated[Duration, OnLine(panel=SAFETY)] = Field(
        default="10m",
        description="How long a change may take to become visible, with a field in --changed-by.",
    )
    shared_target: Annotated[bool, OnLine(panel=SAFETY)] = Field(
        default=False,
        description="Applications write to the target too, and may have begun: it may be there, "
        "gets the points that it lacks, and none of theirs is replaced.",
    )
    keep_limits: Annotated[bool, OnLine(panel=SAFETY)] = Field(
        default=False,
        description="Refuse a target for which the source's size limits are too small; default: "
        "raise them with the dimension.",
    )

    @field_validator("changed_by")
    @classmethod
    def _finds_changes(cls, by: str) -> str:
        if by == BY_IDS:
            raise ValueError("ids alone would miss what was changed while the source was read")
        return by

    @model_validator(mode="after")
    def _still_has_no_pass(self) -> Self:
        if self.still and (self.changed_by != "hash" or self.settle != SETTLE):
            raise ValueError("--still excludes --changed-by and --settle: it looks for no changes")
        return self

    @property
    def finding(self) -> ChangedBy:
        """How a pass finds changes; one run's passes are not counted."""
        return ChangedBy(self.changed_by, parse_duration(self.overlap), full_every=sys.maxsize)

    def open_engine(self) -> Engine:
        """Return the engine; one that was given open, as it is.

        Raises
        ------
        UsageError
            If an option is given that the engine has no use for.
        """
        if isinstance(self.engine, Engine):
            return self.engine
        return open_engine(
            self.engine,
            workers=self.workers,
            device=self.device,
            address=self.ray_address,
            parts=self.parts,
        )


class MigrateOptions(WriteOptions):
    """Options of :func:`vecmigrate.migrate`.

    ``encoder`` may be an open one in Python.
    """

    encoder: Annotated[
        str | InstanceOf[BaseEncoder] | InstanceOf[MeteredEncoder] | None, OnLine(panel=EMBED)
    ] = Field(
        default=None,
        description=f"New encoder, to embed the points' texts instead of translating: "
        f"{ENCODER_HELP}",
    )
    on_missing_text: Annotated[OnMissingText, OnLine(panel=EMBED)] = Field(
        default=OnMissingText.FAIL,
        description="With --encoder, points without a text, or with one that the encoder does not "
        "take: refuse, leave out, or translate (with --translator).",
    )
    budget: Annotated[BudgetText, OnLine(metavar="N [texts|tokens]", panel=EMBED)] = Field(
        default=None,
        description="With --encoder: stop once so much was embedded, as `8500` or `200000 tokens`; "
        "a larger one continues.",
    )
    price_per_million_tokens: Annotated[
        Annotated[float, Field(ge=0)] | None, OnLine(panel=EMBED)
    ] = Field(default=None, description="Price of a million tokens, in any currency.")
    reembed: Annotated[int | str | None, OnLine(metavar="N|N%|recall=R", panel=EMBED)] = Field(
        default=None,
        description="With --translator, --keep-anchors and --encoder: embed so many points, or "
        "this share of all, anchors included, and translate the others. recall=0.9: the least "
        "share that the dry run which the translator is from found to reach it.",
    )
    order: Annotated[Order, OnLine(panel=EMBED)] = Field(
        default=Order.UNCERTAINTY,
        description="Which points are embedded first: those whose translation is the least "
        "certain; of these, those that --queries find; or any.",
    )
    queries: Annotated[Path | None, OnLine(panel=EMBED)] = Field(
        default=None,
        description="For --order traffic: recent queries, .npy under the new encoder, or JSON "
        "lines with texts.",
    )
    reuse: Annotated[list[Path], OnLine(panel=EMBED)] = Field(
        default=[],
        description="With --encoder: folder of a dry run, or anchor file, whose vectors are not "
        "bought again; may be given several times. Those that the state file knows are found.",
    )

    keep_anchors: Path | InstanceOf[AnchorSet] | None = Field(
        default=None,
        description="Anchor file: keep its true vectors instead of their translations, and record "
        "each point's origin in its payload. With --encoder alone: as --reuse.",
    )
    source_encoder: Annotated[str | EncoderIdentity | None, OnLine(panel=SAFETY)] = Field(
        default=None,
        description="Name of the encoder that made the source; refused if not the translator's.",
    )
    on_bad_vector: Annotated[BadVectorPolicy, OnLine(panel=SAFETY)] = OnBadVector.FAIL
    restart: bool = Field(
        default=False, description="Throw away an earlier, unfinished run's target."
    )

    @field_validator("reembed")
    @classmethod
    def _is_a_share(cls, value: int | str | None) -> int | str | None:
        return check_parsed(value, NativeShare.parse)

    @property
    def native_share(self) -> NativeShare | None:
        """How many points are embedded beside translated ones; None if all are, or none."""
        return None if self.reembed is None else NativeShare.parse(str(self.reembed))

    @model_validator(mode="after")
    def _embedding_has_encoder(self) -> Self:
        given = self.on_missing_text is not OnMissingText.FAIL or self.budget is not None
        if self.encoder is None and (given or self.reuse or self.reembed is not None):
            raise ValueError("--on-missing-text, --budget, --reuse and --reembed need --encoder")
        if self.reembed is not None and self.on_missing_text is OnMissingText.SKIP:
            raise ValueError(
                "--reembed translates points without a text: it excludes --on-missing-text skip"
            )
        if self.reembed is None and self.order is not Order.UNCERTAINTY:
            raise ValueError("--order belongs to --reembed")
        if (self.order is Order.TRAFFIC) != (self.queries is not None):
            raise ValueError("--order traffic and --queries belong together")
        if self.reembed is not None and self.keep_anchors is None:
            raise ValueError(
                "--reembed needs --keep-anchors, which tells the scale of translated vectors "
                "beside the encoder's own"
            )
        here = self.engine is EngineName.LOCAL or isinstance(self.engine, LocalEngine)
        if self.budget is not None and not here:
            raise ValueError("--budget needs --engine local: workers know nothing of one another")
        return self

    def meter(self) -> Meter:
        """Return an account for what is embedded; texts that were bought before do not count."""
        budget = None if self.budget is None else Budget.parse(str(self.budget))
        return Meter(budget, self.price_per_million_tokens, counts_reused=False)

    def open_encoder(self, meter: Meter) -> MeteredEncoder | None:
        """Return the encoder on an account; one that has an account, as it is.

        Raises
        ------
        VecmigrateError
            As :func:`vecmigrate.encoders.open_encoder`.
        """
        encoder = self.encoder
        if encoder is None or isinstance(encoder, MeteredEncoder):
            return encoder
        return MeteredEncoder(open_encoder(encoder) if isinstance(encoder, str) else encoder, meter)
