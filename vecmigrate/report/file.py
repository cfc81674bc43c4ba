"""``report.json``: written whole, read strictly."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from vecmigrate.errors import InputError, reason_of
from vecmigrate.io.atomic import published
from vecmigrate.report.schema import READABLE_VERSIONS, DryRunReport

REPORT_JSON = "report.json"


def save_report(report: DryRunReport, folder: Path) -> Path:
    """Write ``folder/report.json``, replacing an earlier one, and return its path.

    Raises
    ------
    WriteError
    """
    path = folder / REPORT_JSON
    with published(path) as partial:
        write_report(report, partial)
    return path


def write_report(report: DryRunReport, path: Path) -> None:
    """Write a report as it is kept, to any path."""
    path.write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")


def load_report(path: str | Path) -> DryRunReport:
    """Read a report; ``path`` is the file or the folder that holds it.

    Raises
    ------
    InputError
        If there is none, or it is of another version or damaged.
    """
    path = Path(path)
    if path.is_dir():
        path = path / REPORT_JSON
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} is not a readable report ({getattr(error, 'strerror', None) or error})",
            remedy="Give the folder or report.json that `vecmigrate dry-run` wrote.",
        ) from error
    version = facts.get("schema_version") if isinstance(facts, dict) else None
    if version not in READABLE_VERSIONS:
        raise InputError(
            f"{path} is of schema version {version}, and this vecmigrate reads "
            f"{' and '.join(map(str, READABLE_VERSIONS))}",
            remedy="Make the report again with this version.",
        )
    try:
        return DryRunReport.model_validate(facts)
    except ValidationError as error:
        raise InputError(
            f"{path} is damaged ({reason_of(error)})", remedy="Make the report again."
        ) from error
