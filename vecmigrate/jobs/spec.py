"""What a job's file may say."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails

from vecmigrate.dry_run.options import GATES, GateName, MeasureOptions
from vecmigrate.encoders.options import BudgetText
from vecmigrate.errors import InputError, UsageError
from vecmigrate.migration.options import MigrateOptions, WriteOptions
from vecmigrate.migration.reembed import OnMissingText
from vecmigrate.points.screening import BadVectorPolicy, OnBadVector
from vecmigrate.report.schema import RouteName
from vecmigrate.runtime.durations import Duration
from vecmigrate.runtime.options import Options, Share
from vecmigrate.runtime.settling import SETTLE
from vecmigrate.runtime.waiting import DEFAULT_WAIT
from vecmigrate.sync.options import ChangeOptions
from vecmigrate.telemetry.redaction import redacted
from vecmigrate.verification.options import CompareOptions


class SourceSection(Options):
    """The collection that is moved."""

    uri: str = Field(description="Collection to read. It is never modified.")
    encoder: str | None = Field(
        default=None,
        description="Old encoder: lets the dry run compare with the collection as it is now.",
    )


class TargetSection(Options):
    """The collection that is made."""

    uri: str = Field(description="Collection to make; nothing may be there yet.")
    encoder: str = Field(description="New encoder.")
    query_encoder: str | None = Field(
        default=None, description="Encodes queries if `encoder` is a file of documents' vectors."
    )


class DryRunSection(MeasureOptions):
    """How the move is measured before anything is written, and the map is fitted."""

    out: Path = Field(
        default=Path("dry-run"), description="Folder for the page, the anchors and the translator."
    )


class MigrateSection(WriteOptions):
    """How the target is written."""

    route: RouteName = Field(
        default=RouteName.TRANSLATE,
        description="How the target comes to its vectors: `translate`, `re-embed` everything, "
        "`mixed` (a share is re-embedded), `two-stage` (translated, and searched by the searcher, "
        "for which the dry run's queries are run once), or `auto`: the cheapest that meets the "
        "gates.",
    )
    budget: BudgetText = Field(
        default=None,
        description="Most that a route may embed, as `8500` or `200000 tokens`: a run stops there, "
        "and goes on once the bound is raised. Default: no bound.",
    )
    on_missing_text: OnMissingText = Field(
        default=OnMissingText.FAIL,
        description="Points without a text, if texts are embedded: refuse, leave out or translate.",
    )
    keep_anchors: bool = Field(
        default=True,
        description="Keep the true vectors of anchors, and record each point's origin; a mixture "
        "does in any case.",
    )

    def options(self, **more: Any) -> MigrateOptions:
        """Return the options of the migration, with those that other sections and a route tell.

        Raises
        ------
        UsageError
            If they do not go together.
        """
        written = {name: getattr(self, name) for name in WriteOptions.model_fields}
        return MigrateOptions.checked({**written, **more})


class VerifySection(CompareOptions):
    """How closely the target is looked at."""


class SyncSection(ChangeOptions):
    """How a target that is there is brought in step with its source."""


class CutoverSection(Options):
    """What readers open."""

    name: str = Field(
        description="An alias in Qdrant, a path for FAISS; switched by `run --cutover` alone."
    )
    catch_up: bool = Field(
        default=True,
        description="Bring what changes at the source before and after the switch.",
    )
    settle: Share = Field(
        default=SETTLE,
        description="Switch once a pass finds no more than this share of the points changed, or no "
        "more than 100 points.",
    )
    keep_back: Duration | None = Field(
        default=None,
        description="So long after the cutover, as `7d`, each run brings what changed at the new "
        "collection to the old one, so that a rollback loses nothing; `source.encoder` makes the "
        "vectors, else a map that is fitted from the anchors. Default: not at all.",
    )


class JobSpec(Options):
    """A move from one collection to another.

    Paths, those in URIs too, are seen from the file's folder. Secrets are in environment variables
    alone (`QDRANT_API_KEY`, `OPENAI_API_KEY`, or those that `api_key_env=` names).
    """

    source: SourceSection
    target: TargetSection
    on_bad_vector: BadVectorPolicy = OnBadVector.FAIL
    wait: Duration | None = Field(
        default=None,
        description="How long to wait for a server that went away, as `30s` or `1h`; default: "
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


JOB_FILE = Path("vecmigrate.toml")
_PLAIN = re.compile(r"[A-Za-z0-9_-]+")
_SECRET = "Secrets come from environment variables only: take it out of the file, and change it."


def load_job(path: str | Path = JOB_FILE) -> JobSpec:
    """Read a job's file.

    Raises
    ------
    InputError
        If it cannot be read.
    UsageError
        If it is not TOML, says what is not known, or holds a secret; names file and key.
    """
    path = Path(path)
    try:
        facts = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"the job {path} cannot be read: {error.strerror or error}",
            remedy="Name the file, or write one; docs/reference/job.md shows how.",
        ) from error
    except ValueError as error:
        raise UsageError(f"{path} is not TOML: {error}", remedy="Mend that line.") from error
    _refuse_secrets(path, facts, ())
    try:
        return JobSpec.model_validate(facts)
    except ValidationError as error:
        raise UsageError(
            f"{path}: {'; '.join(_told_once(error.errors()))}",
            remedy="docs/reference/job.md lists what a job may say.",
        ) from error


def _refuse_secrets(path: Path, value: Any, key: tuple[str, ...]) -> None:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            _refuse_secrets(path, inner, (*key, name))
    elif isinstance(value, str):
        where = ".".join(key)
        # Read as an option too, so that `api_key = "…"` is told like `?api_key=…`.
        if redacted(value) != value or redacted(f"?{key[-1]}=x") != f"?{key[-1]}=x":
            raise UsageError(f"{path}: {where} holds a secret", remedy=_SECRET)


def _told_once(errors: list[ErrorDetails]) -> list[str]:
    """Say each key's first error; of a union, pydantic has one for every kind that it tried."""
    told: dict[str, str] = {}
    for error in errors:
        # A section's name and a field's; what follows tells the kinds of a union.
        key = [str(part) for part in error["loc"][:2]]
        told.setdefault(".".join(key), _told(error, key))
    return list(told.values())


def _told(error: ErrorDetails, key: list[str]) -> str:
    """Say what is wrong with a key, and what may have been meant."""
    name = _spelled(key)
    if error["type"] == "extra_forbidden" or error["loc"][-1] == "[key]":
        close = get_close_matches(key[-1], _known(key[:-1]), n=1)
        meant = _spelled([*key[:-1], *close])
        return f"{name} is not known{f' (did you mean {meant}?)' if close else ''}"
    if error["type"] == "missing":
        return f"{name} is missing"
    said = error["msg"].removeprefix("Value error, ")
    return f"{name}: {said[0].lower()}{said[1:]}"


def _spelled(key: list[str]) -> str:
    """Return a key as TOML has it: parts that are no plain names are quoted."""
    return ".".join(part if _PLAIN.fullmatch(part) else json.dumps(part) for part in key)


def _known(section: list[str]) -> list[str]:
    if section == ["gates"]:
        return list(GATES)
    if not section:
        return list(JobSpec.model_fields)
    annotation = JobSpec.model_fields[section[0]].annotation
    kinds = [annotation, *get_args(annotation)]
    [model] = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Options)]
    return list(model.model_fields)
