"""A share of re-embedding is told by what it is to reach, as the dry run measured it."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.live import make
from support.reports import full_report
from typer.testing import CliRunner

from vecmigrate import open_source
from vecmigrate.cli import app
from vecmigrate.connector import ORIGIN_FIELD
from vecmigrate.errors import ExitCode
from vecmigrate.report.file import save_report


@pytest.mark.parametrize("order", ["uncertainty", "random"])
def test_the_least_share_that_reaches_it_is_embedded(order: str, tmp_path: Path) -> None:
    job = make(tmp_path, anchors=True, kernel=True)
    report = full_report()
    file = report.translator.model_copy(update={"file": job.translator.name})
    save_report(report.model_copy(update={"translator": file}), tmp_path)
    [points] = [line.points for line in report.curve.lines if line.order == order]
    wanted = points[-2].recall_at_10.low
    assert points[-3].recall_at_10.low < wanted
    command = [
        "migrate", job.source, f"faiss:{tmp_path}/mixed.faiss", "--translator", str(job.translator),
        "--keep-anchors", str(tmp_path / "a.parquet"), "--encoder", job.encoder,
        "--order", order, "--state", str(job.state), "--reembed",
    ]  # fmt: skip
    result = CliRunner().invoke(app, [*command, f"recall={wanted - 1e-9:.9f}"])
    assert result.exit_code == ExitCode.OK, result.output
    with open_source(f"faiss:{tmp_path}/mixed.faiss") as target:
        [batch] = target.batches(1000)
    native = [payload[ORIGIN_FIELD] == "encoded" for payload in batch.each_payload()]
    assert sum(native) == max(60, round(points[-2].share * len(native)))


def test_a_recall_that_nothing_tells_is_refused(tmp_path: Path) -> None:
    job = make(tmp_path, anchors=True)
    command = [
        "migrate", job.source, f"faiss:{tmp_path}/mixed.faiss", "--translator", str(job.translator),
        "--keep-anchors", str(tmp_path / "a.parquet"), "--encoder", job.encoder,
        "--state", str(job.state), "--reembed", "recall=0.9",
    ]  # fmt: skip
    result = CliRunner().invoke(app, command)
    assert result.exit_code == ExitCode.USAGE
    # The report beside it is of another translator.
    save_report(full_report(), tmp_path)
    assert CliRunner().invoke(app, command).exit_code == ExitCode.USAGE
    assert not (tmp_path / "mixed.faiss").exists()
