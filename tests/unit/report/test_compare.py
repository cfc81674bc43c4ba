"""``vecmigrate compare``: rows, page, warnings, refusals."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from support.reports import estimate, full_report, hostile_report, minimal_report
from typer.testing import CliRunner

from vecmigrate.cli import app
from vecmigrate.connector import EncoderIdentity
from vecmigrate.errors import ExitCode
from vecmigrate.report.file import save_report
from vecmigrate.report.schema import DryRunReport


def run(*arguments: object, code: int = 0) -> tuple[str, str]:
    result = CliRunner().invoke(
        app, ["compare", *map(str, arguments)], catch_exceptions=False
    )  # fmt: skip
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


def run_json(*arguments: object) -> dict[str, Any]:
    return json.loads(run(*arguments, "--json")[0])  # type: ignore[no-any-return]


def better_report() -> DryRunReport:
    full = full_report()
    at = {k: estimate(figure.value + 0.2) for k, figure in full.recall.at.items()}
    return full.model_copy(
        update={
            "new_encoder": EncoderIdentity(name="bge-base-en", dimension=768),
            "translator": full.translator.model_copy(update={"method": "procrustes"}),
            "recall": full.recall.model_copy(update={"at": at}),
        }
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, report in (
        ("first", full_report()),
        ("better", better_report()),
        ("minimal", minimal_report()),
        ("elsewhere", full_report(source="qdrant:storage/other")),
        ("hostile", hostile_report()),
    ):
        (tmp_path / name).mkdir()
        save_report(report, tmp_path / name)
    return tmp_path


def test_the_rows_are_those_of_the_reports_in_the_order_given(folder: Path) -> None:
    compared = run_json(folder / "better", folder / "first" / "report.json")
    assert compared["warnings"] == []
    better, first = compared["reports"]
    assert (better["new_encoder"], better["method"]) == ("bge-base-en", "procrustes")
    assert first["new_encoder"] == "all-mpnet-base-v2"
    assert first["recall"]["10"] == {"value": 0.507, "low": 0.482, "high": 0.532}
    assert better["recall"]["10"]["value"] == pytest.approx(0.707)
    assert first["labelled_ndcg_change"]["difference"]["value"] == pytest.approx(-0.066)
    assert first["texts_embedded"] == 8720
    assert first["money"] == pytest.approx(0.01292, abs=1e-5)
    assert first["verdict"] == "no-go"
    assert first["route"] == "re-embed 60 %"
    assert first["route_cost"]["texts"] == 16_000


def test_what_a_report_does_not_have_is_null(folder: Path) -> None:
    [row] = run_json(folder / "minimal")["reports"]
    assert row["money"] is row["labelled_ndcg_change"] is None
    assert set(row["recall"]) == {"1", "10"}
    out, _ = run(folder / "minimal")
    assert re.search(r"^1 +0\.552 \[.*?\] +0\.507 \[.*?\] +-\s*$", out, re.MULTILINE)


def test_the_table_for_a_person(folder: Path) -> None:
    out, err = run(folder / "first", folder / "better")
    assert err == ""
    assert "0.507 [0.482, 0.532]" in out
    assert "0.707 [0.682, 0.732]" in out
    assert re.search(r"^2 .*bge-base-en +procrustes +2,000 .* no-go", out, re.MULTILINE)
    assert "-0.066 [-0.084, -0.048], p < 0.001" in out
    assert run(folder / "first", "--quiet") == ("", "")


def test_markup_in_names_is_text_on_a_terminal(tmp_path: Path) -> None:
    report = full_report(source="faiss:[red]x[/red].faiss")
    save_report(report, tmp_path)
    assert "[red]x[/red]" in run(tmp_path)[0]


def test_different_sources_are_warned_of(folder: Path) -> None:
    _, err = run(folder / "first", folder / "elsewhere")
    assert err.count("warning: ") == 1
    assert "qdrant:storage/other" in err
    assert "not comparable" in err
    [warning] = run_json(folder / "first", folder / "elsewhere")["warnings"]
    assert "of different sources" in warning


def test_different_kinds_of_probes_are_warned_of(folder: Path) -> None:
    assert "which are easier" in run(folder / "first", folder / "minimal")[1]


def test_the_page_holds_both_reports(folder: Path) -> None:
    page = folder / "compared.html"
    out, _ = run(folder / "first", folder / "better", folder / "elsewhere", "--out", page)
    assert str(page) in out
    markup = page.read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")
    assert markup.count("<figure") == 2
    assert "report 2 has the highest recall@10, 0.707 [0.682, 0.732]" in markup
    assert "Not comparable:" in markup
    for figure in ("0.507 [0.482, 0.532]", "bge-base-en", "qdrant:storage/other"):
        assert figure in markup
    assert not re.search(r"<script|https?://(?!www\.w3\.org)", markup)


def test_hostile_names_are_texts_on_the_page(folder: Path) -> None:
    page = folder / "compared.html"
    run(folder / "hostile", "--out", page)
    markup = page.read_text(encoding="utf-8")
    assert "<script" not in markup
    [svg, *_] = re.findall(r"<svg.*?</svg>", markup, re.DOTALL)
    assert "&lt;script&gt;" in svg


def test_many_reports_fit_on_a_page(tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / str(number)).mkdir()
        save_report(better_report(), tmp_path / str(number))
    page = tmp_path / "compared.html"
    run(*(tmp_path / str(number) for number in range(12)), "--out", page)
    assert page.stat().st_size < 500_000


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["{f}/first", "{f}/first/report.json"], ExitCode.USAGE, "the same report"),
        (["{f}/first", "{f}/better/../first"], ExitCode.USAGE, "the same report"),
        (["{f}/none"], ExitCode.BAD_INPUT, "none"),
        (["{f}"], ExitCode.BAD_INPUT, "report.json"),
        (["{f}/damaged.json"], ExitCode.BAD_INPUT, "damaged"),
        (["{f}/first", "--out", "{f}/damaged.json"], ExitCode.TARGET_EXISTS, "exists"),
        (["{f}/first", "--out", "{f}/none/page.html"], ExitCode.WRITE_FAILED, "page.html"),
    ],
)
def test_wrong_use_is_one_line_and_a_documented_code(
    folder: Path, arguments: list[str], code: ExitCode, says: str
) -> None:
    (folder / "damaged.json").write_text('{"schema_version": 1}')
    filled = [argument.format(f=folder) for argument in arguments]
    _, err = run(*filled, code=code)
    assert err.count("\n") == 1
    assert err.startswith("error: ")
    assert says in err
    out, _ = run(*filled, "--json", code=code)
    assert json.loads(out)["error"]["exit_code"] == code


def test_no_report_is_a_usage_error() -> None:
    assert CliRunner().invoke(app, ["compare"]).exit_code == ExitCode.USAGE


def test_help_has_examples() -> None:
    out, _ = run("--help")
    assert "vecmigrate compare" in out
