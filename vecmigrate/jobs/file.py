"""Reads a job's file: TOML, and nothing that it does not know."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from vecmigrate.errors import InputError, UsageError
from vecmigrate.jobs.spec import GateName, JobSpec, Section
from vecmigrate.telemetry.redaction import redacted

JOB_FILE = Path("vecmigrate.toml")
_SECRET = "Secrets come from environment variables only: take it out of the file, and change it."


def load_job(path: str | Path = JOB_FILE) -> JobSpec:
    """Read a job's file.

    Raises
    ------
    InputError
        Where it cannot be read.
    UsageError
        Where it is not TOML, says what is not known, or holds a secret; names file and key.
    """
    path = Path(path)
    try:
        facts = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"the job {path} cannot be read: {error.strerror or error}",
            remedy="Name the file, or write one; docs/jobs.md shows how.",
        ) from error
    except ValueError as error:
        raise UsageError(f"{path} is not TOML: {error}", remedy="Mend that line.") from error
    _refuse_secrets(path, facts, ())
    try:
        return JobSpec.model_validate(facts)
    except ValidationError as error:
        raise UsageError(
            f"{path}: {'; '.join(_told_once(error.errors()))}",
            remedy="docs/jobs.md lists what a job may say.",
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
    name = ".".join(key)
    if error["type"] == "extra_forbidden" or error["loc"][-1] == "[key]":
        close = get_close_matches(key[-1], _known(key[:-1]), n=1)
        meant = ".".join([*key[:-1], *close])
        return f"{name} is not known{f' (did you mean {meant}?)' if close else ''}"
    if error["type"] == "missing":
        return f"{name} is missing"
    return f"{name}: {error['msg'][0].lower()}{error['msg'][1:]}"


def _known(section: list[str]) -> list[str]:
    if section == ["gates"]:
        return list(get_args(GateName))
    if not section:
        return list(JobSpec.model_fields)
    annotation = JobSpec.model_fields[section[0]].annotation
    kinds = [annotation, *get_args(annotation)]
    [model] = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)]
    return list(model.model_fields)
