"""What a job's file may say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from vecmigrate.anchors import Strategy
from vecmigrate.errors import UsageError
from vecmigrate.migration.dead_letters import MAX_DEAD_LETTERS, OnBadPoint
from vecmigrate.migration.engines import EngineName
from vecmigrate.migration.run import BATCH_SIZE, CHECKPOINT_SECONDS
from vecmigrate.points.screening import OnBadVector
from vecmigrate.runtime.durations import parse_duration
from vecmigrate.runtime.waiting import DEFAULT_WAIT
from vecmigrate.translators.fit import Method
from vecmigrate.verification.settings import SAMPLE

GateName: TypeAlias = Literal[
    "min-recall@1",
    "min-recall@5",
    "min-recall@10",
    "min-recall@50",
    "min-recall@100",
    "min-ndcg@10",
    "max-loss-recall@10",
    "max-loss-mrr@10",
    "max-loss-ndcg@10",
]
Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]


def _duration(text: str) -> str:
    try:
        parse_duration(text)
    except UsageError as error:
        raise ValueError(str(error)) from error
    return text


class Section(BaseModel):
    """A part of the file; what it does not know is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceSection(Section):
    """The collection that is moved."""

    uri: str = Field(description="Collection to read. It is never modified.")
    encoder: str | None = Field(
        default=None,
        description="Old encoder: lets the dry run compare with the collection as it is now.",
    )


class TargetSection(Section):
    """The collection that is made."""

    uri: str = Field(description="Collection to make; nothing may be there yet.")
    encoder: str = Field(description="New encoder.")
    query_encoder: str | None = Field(
        default=None, description="Encodes queries where `encoder` is a file of documents' vectors."
    )


class DryRunSection(Section):
    """How the move is measured before anything is written, and the map is fitted."""

    out: Path = Field(
        default=Path("dry-run"), description="Folder for the page, the anchors and the translator."
    )
    queries: Path | None = Field(
        default=None,
        description="JSONL query log; without one, held-out documents are the queries.",
    )
    labels: Path | None = Field(
        default=None, description="Relevant documents: JSONL, or TREC's qrels."
    )
    anchors: Annotated[int, Field(ge=2)] | Path | None = Field(
        default=None,
        description="How many to draw (4000, at most a fifth), or a file from `anchors`.",
    )
    budget: int | str | None = Field(
        default=None, description="Bound on all that is re-embedded, as `8500` or `200000 tokens`."
    )
    method: Method = Field(
        default=Method.AUTO, description="auto chooses by recall on held-out anchors."
    )
    texts: bool = Field(
        default=True,
        description="Translate by the points' texts too, where the encoder's table is here.",
    )
    strategy: Literal[Strategy.KMEANS, Strategy.UNIFORM] = Field(
        default=Strategy.KMEANS, description="How anchors are chosen."
    )
    price_per_million_tokens: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="Puts money to re-embedding, in any currency."
    )
    target_recall: Share | None = Field(
        default=None, description="Names the cheapest re-embedding with this recall@10."
    )
    order: Literal["best", "uncertainty", "traffic", "random"] = Field(
        default="best", description="In which order more of the corpus would be re-embedded."
    )
    seed: Annotated[int, Field(ge=0)] = Field(default=0, description="Seed of every random draw.")


class MigrateSection(Section):
    """How the target is written."""

    keep_anchors: bool = Field(
        default=True, description="Keep the true vectors of anchors, and tell each point's origin."
    )
    batch_size: Annotated[int, Field(ge=1)] = Field(
        default=BATCH_SIZE, description="Vectors held at a time."
    )
    on_bad_point: OnBadPoint = Field(
        default=OnBadPoint.FAIL, description="A point that the target's store refuses."
    )
    dead_letters: Path | None = Field(
        default=None, description="Where refused points go; unsaid, beside the state file."
    )
    max_dead_letters: Annotated[int, Field(ge=1)] = Field(
        default=MAX_DEAD_LETTERS, description="Stop where the store refuses more points than this."
    )
    max_rate: Annotated[float, Field(ge=1)] | None = Field(
        default=None, description="Points a second to write at most."
    )
    id_with_key: bool = Field(
        default=False,
        description="Write ids as `KEY/ID` if the target's store does not know the source's "
        "shard keys.",
    )
    keep_limits: bool = Field(
        default=False,
        description="Refuse a target for which the source's size limits are too small, instead of "
        "raising them with the dimension.",
    )
    checkpoint_seconds: Annotated[float, Field(ge=0)] = Field(
        default=CHECKPOINT_SECONDS,
        description="How often to make durable what was written, at most.",
    )
    engine: EngineName = Field(
        default=EngineName.LOCAL, description="Where translating is done: here, or by Ray workers."
    )
    workers: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Threads that translate, or Ray tasks; unsaid, one a processor."
    )
    device: str | None = Field(
        default=None,
        description="`cpu`, or a device of torch as `cuda:1`; unsaid, a GPU if there is one.",
    )
    ray_address: str | None = Field(
        default=None, description="Ray cluster to use; unsaid, RAY_ADDRESS, or one started here."
    )
    parts: Path | None = Field(
        default=None, description="Folder that all Ray workers see; unsaid, beside the state file."
    )


class VerifySection(Section):
    """How closely the target is looked at."""

    full: bool = Field(default=False, description="Compare every vector with its re-translation.")
    sample: Annotated[int, Field(ge=1)] = Field(
        default=SAMPLE, description="Else compare this many, drawn at random."
    )
    queries: Path | None = Field(
        default=None,
        description=".npy of queries under the new encoder, to measure the index with.",
    )
    min_index_recall: Share | None = Field(
        default=None,
        description="Fail where the index finds less of the true top 10; unsaid, warn.",
    )


class SyncSection(Section):
    """How a target that is there is brought in step with its source."""

    changed_by: str = Field(
        default="hash", description="`hash`, `ids`, or a payload field with the time."
    )
    max_vanished: Share = Field(
        default=0.5, description="Refuse where a larger share of the points vanished."
    )
    reembed_budget: int | str | None = Field(
        default=None, description="Re-embed up to so many texts, or `20000 tokens`, on each run."
    )
    queries: Path | None = Field(
        default=None, description="Recent queries: what they find is worth more to re-embed."
    )


class CutoverSection(Section):
    """What readers open."""

    name: str = Field(
        description="An alias in Qdrant, a path for FAISS; switched by `run --cutover` alone."
    )


class JobSpec(Section):
    """A move from one collection to another.

    Paths, those in URIs too, are seen from the file's folder. Secrets are in environment variables
    alone (`QDRANT_API_KEY`, `OPENAI_API_KEY`, or those that `api_key_env=` names).
    """

    source: SourceSection
    target: TargetSection
    on_bad_vector: OnBadVector = Field(
        default=OnBadVector.FAIL, description="NaN, infinite or zero vectors: refuse, or leave out."
    )
    wait: Annotated[str, AfterValidator(_duration)] | None = Field(
        default=None,
        description="How long to wait for a server that went away, as `30s` or `1h`; unsaid, "
        f"{DEFAULT_WAIT}. `--wait` wins.",
    )
    dry_run: DryRunSection = DryRunSection()
    gates: dict[GateName, Share] = Field(
        default={}, description="Bounds for the dry run's figures, intervals included."
    )
    migrate: MigrateSection = MigrateSection()
    verify: VerifySection = VerifySection()
    sync: SyncSection = SyncSection()
    cutover: CutoverSection | None = None
