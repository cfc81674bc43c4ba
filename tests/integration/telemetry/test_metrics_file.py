"""The metrics file: real runs, read by Prometheus's own parser."""

from __future__ import annotations

import re
import shutil
import signal
import time
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from support.crash import make_source, make_translator
from support.forked import Forked
from typer.testing import CliRunner

from vecmigrate.cli import app
from vecmigrate.errors import ExitCode
from vecmigrate.telemetry.metrics_file import HELP, LABELS, POINTS_TOTAL, RUN, MetricsFile

DOCS = Path(__file__).parents[3] / "docs"
FILE = Path("vecmigrate.prom")


def run(*arguments: object, code: int = 0) -> tuple[str, str]:
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


def figures(command: str, target: str) -> dict[str, float]:
    """Of one series, by the names after ``vecmigrate_``."""
    return {
        sample.name.removeprefix("vecmigrate_"): sample.value
        for family in text_string_to_metric_families(FILE.read_text())
        for sample in family.samples
        if (sample.labels["command"], sample.labels["target"]) == (command, target)
    }


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A migration's arguments, in a directory with all that it needs."""
    monkeypatch.chdir(tmp_path)
    make_translator(tmp_path)
    source = make_source("faiss", tmp_path, 60)
    return [
        "migrate", source, "faiss:new.faiss", "--translator", "translator", "-q",
        "--metrics-file", str(FILE),
    ]  # fmt: skip


def start(job: list[str], *options: str) -> Forked:
    return Forked("-m", "vecmigrate", *job, *options)


def many(job: list[str], points: int = 20_000) -> list[str]:
    """The same with a source that takes a while."""
    Path("many").mkdir()
    return [job[0], make_source("faiss", Path("many").absolute(), points), *job[2:]]


def test_a_run_that_ends_well(job: list[str]) -> None:
    before = time.time()
    run(*job)
    seen = figures("migrate", job[2])
    assert before <= seen["run_last_start_timestamp_seconds"]
    assert seen["run_last_start_timestamp_seconds"] < seen["run_last_end_timestamp_seconds"]
    assert seen["run_last_end_timestamp_seconds"] <= time.time()
    assert seen["run_last_success_timestamp_seconds"] == seen["run_last_end_timestamp_seconds"]
    assert seen["run_last_update_timestamp_seconds"] >= seen["run_last_end_timestamp_seconds"]
    assert 0 < seen["run_duration_seconds"] <= time.time() - before
    assert (seen["run_last_exit_code"], seen["run_in_progress"]) == (0, 0)
    assert {name: value for name, value in seen.items() if name.startswith("points")} == {
        "points_read": 60, "points_written": 60, "points_skipped": 0, "points_quarantined": 0,
        "points_kept_anchors": 0,
    }  # fmt: skip
    for family in text_string_to_metric_families(FILE.read_text()):
        assert (family.type, bool(family.documentation)) == ("gauge", True)
        for sample in family.samples:
            assert sample.labels == dict(zip(LABELS, job[:3], strict=True))


def test_a_failure_leaves_the_last_success_and_no_points(job: list[str]) -> None:
    run(*job)
    well = figures("migrate", job[2])
    job[4] = "none"
    run(*job, code=ExitCode.BAD_INPUT)
    seen = figures("migrate", job[2])
    assert seen["run_last_exit_code"] == ExitCode.BAD_INPUT
    assert seen["run_last_end_timestamp_seconds"] > well["run_last_end_timestamp_seconds"]
    assert seen["run_last_success_timestamp_seconds"] == well["run_last_success_timestamp_seconds"]
    assert not [name for name in seen if name.startswith("points")]


def test_the_environment_names_the_file_too(
    job: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VECMIGRATE_METRICS_FILE", str(FILE))
    run(*job[:-2])
    assert figures("migrate", job[2])["points_written"] == 60
    monkeypatch.setenv("VECMIGRATE_METRICS_FILE", "")
    FILE.unlink()
    run(*job[:-2])
    assert not FILE.exists()


def test_others_in_the_file_stay(job: list[str]) -> None:
    run(*job)
    first = figures("migrate", job[2])
    run(job[0], job[1], "faiss:other.faiss", *job[3:])
    run("verify", *job[1:])
    assert figures("migrate", job[2]) == first
    assert figures("migrate", "faiss:other.faiss")["points_written"] == 60
    verified = figures("verify", job[2])
    assert (verified["points_compared"], verified["points_wrong"]) == (60, 0)
    assert len(MetricsFile(FILE).read()) == 3


def test_runs_at_the_same_time_keep_each_other_s(job: list[str]) -> None:
    options = ("--batch-size", "5", "--checkpoint-seconds", "0")
    targets = [f"faiss:new{i}.faiss" for i in range(3)]
    running = [start([job[0], job[1], target, *job[3:]], *options) for target in targets]
    for process in running:
        assert process.wait() == 0, process.communicate()
    for target in targets:
        assert figures("migrate", target)["points_written"] == 60


def test_checkpoints_are_seen_whole_and_a_kill_leaves_it_in_progress(job: list[str]) -> None:
    job = many(job)
    process = start(job, "--batch-size", "20", "--checkpoint-seconds", "0")
    seen: list[float] = []
    while process.poll() is None and len(set(seen)) < 5:
        if FILE.exists():
            # Whatever instant this is, the file is whole.
            now = figures("migrate", job[2])
            assert now["run_in_progress"] == 1
            assert {"run_last_start_timestamp_seconds", "run_last_update_timestamp_seconds"} <= set(
                now
            )
            seen.append(now.get("points_written", 0))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert seen == sorted(seen)
    assert 0 < seen[-1] < 20_000
    left = figures("migrate", job[2])
    assert left["run_in_progress"] == 1
    assert left["run_last_update_timestamp_seconds"] > left["run_last_start_timestamp_seconds"]
    assert "run_last_exit_code" not in left
    run(*job)
    assert figures("migrate", job[2])["points_written"] == 20_000
    assert figures("migrate", job[2])["run_in_progress"] == 0


def test_sigterm_is_told(job: list[str]) -> None:
    job = many(job)
    process = start(job, "--batch-size", "20", "--checkpoint-seconds", "0")
    while not (FILE.exists() and figures("migrate", job[2]).get("points_written")):
        assert process.poll() is None
    process.terminate()
    process.communicate()
    seen = figures("migrate", job[2])
    assert (seen["run_last_exit_code"], seen["run_in_progress"]) == (ExitCode.TERMINATED, 0)
    assert 0 < seen["points_written"] < 20_000
    assert "run_last_success_timestamp_seconds" not in seen


@pytest.mark.parametrize("content", ["node_load1 0.5\n", "no metrics {\n", "\xff\xfe\n"])
def test_somebody_else_s_file_is_refused_and_left(job: list[str], content: str) -> None:
    FILE.write_text(content, encoding="latin-1")
    _, err = run(*job, code=ExitCode.BAD_INPUT)
    assert err.startswith(f"error: {FILE} is not a metrics file of vecmigrate")
    assert err.count("\n") == 1
    assert FILE.read_text(encoding="latin-1") == content
    assert not Path("new.faiss").exists()


def test_a_folder_that_is_not_there_is_one_clear_error(job: list[str]) -> None:
    job[-1] = "none/vecmigrate.prom"
    _, err = run(*job, code=ExitCode.WRITE_FAILED)
    assert err.startswith("error: the metrics file none/vecmigrate.prom cannot be written")
    assert err.count("\n") == 1
    assert not Path("new.faiss").exists()


def test_a_device_that_has_no_end_is_not_read(job: list[str]) -> None:
    job[-1] = "/dev/zero"
    run(*job, code=ExitCode.BAD_INPUT)
    assert not Path("new.faiss").exists()


def test_a_folder_that_goes_away_costs_a_warning(job: list[str]) -> None:
    Path("textfile").mkdir()
    job = [*many(job)[:-1], "textfile/vecmigrate.prom"]
    job.remove("-q")
    process = start(job, "--batch-size", "200")
    while not Path("textfile/vecmigrate.prom").exists():
        assert process.poll() is None
    shutil.rmtree("textfile")
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert "warning: the metrics file textfile/vecmigrate.prom cannot be written" in err
    assert "Traceback" not in err
    assert Path("new.faiss").exists()


def test_labels_of_any_kind_come_back(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "x.prom")
    labels = ("migrate", 'faiss:a "b"\\c.faiss', "qdrant:ü/line\nbreak")
    file.update(labels, {f"{RUN}last_exit_code": 3})
    file.update(labels, {f"{POINTS_TOTAL}written": 10_000_000_001, f"{RUN}duration_seconds": 1 / 3})
    assert file.read() == {
        labels: {
            f"{RUN}last_exit_code": 3,
            f"{POINTS_TOTAL}written": 10_000_000_001,
            f"{RUN}duration_seconds": 1 / 3,
        }
    }
    assert [path.name for path in tmp_path.iterdir()] == ["x.prom"]


def test_the_page_s_table_is_complete(job: list[str]) -> None:
    run(*job)
    run("verify", *job[1:])
    written = {name for own in MetricsFile(FILE).read().values() for name in own}
    page = (DOCS / "reference" / "logs-and-metrics.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| `vecmigrate_")]
    named = {name for row in rows for name in re.findall(r"`(vecmigrate_\w+)`", row)}
    assert named == written
    assert set(HELP) <= named


def test_the_page_s_alerts_are_rules_on_what_is_there(job: list[str]) -> None:
    run(*job)
    run("verify", *job[1:])
    written = {name for own in MetricsFile(FILE).read().values() for name in own}
    page = (DOCS / "how-to" / "observe.md").read_text()
    [block] = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    [group] = yaml.safe_load(block)["groups"]
    assert len(group["rules"]) == 4
    for rule in group["rules"]:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        used = set(re.findall(r"vecmigrate_\w+", rule["expr"]))
        assert used
        assert used <= written
        assert set(re.findall(r"[{,]\s*(\w+)\s*=", rule["expr"])) <= set(LABELS)
        told = " ".join(rule["annotations"].values())
        assert set(re.findall(r"\$labels\.(\w+)", told)) <= set(LABELS)
