"""report.html as a text: self-contained, escaped, deterministic, small, complete."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from support.pages import SHAPES, page_of
from support.reports import HOSTILE, full_report, hostile_report, minimal_report

from vecmigrate.cli.dry_run import show
from vecmigrate.cli.output import Output
from vecmigrate.errors import InputError, WriteError
from vecmigrate.report.comparison import compare_reports
from vecmigrate.report.file import load_report
from vecmigrate.report.formatting import duration, money, p_value, percent, trimmed
from vecmigrate.report.html import write_html
from vecmigrate.report.plots.distributions import (
    cosine_histogram,
    decile_plot,
    loss_histogram,
    loss_map,
    score_plot,
)
from vecmigrate.report.schema import CalibrationDecile, DocumentText, DryRunReport, ProbeLoss

ROOT = Path(__file__).parents[3]
SCHEMA = ROOT / "docs" / "reference" / "report.schema.json"
VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """Elements of a page, and its text; fails where tags do not nest."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(markup)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.elements if found == tag]

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def markup() -> dict[str, str]:
    made = {}
    for shape in SHAPES:
        path = page_of(shape)
        assert [file.name for file in path.parent.iterdir()] == ["report.html"]
        made[shape] = path.read_text(encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def pages(markup: dict[str, str]) -> dict[str, Page]:
    return {name: Page(text) for name, text in markup.items()}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_page_refers_to_nothing_outside(
    shape: str, markup: dict[str, str], pages: dict[str, Page]
) -> None:
    page = pages[shape]
    assert page.all("script") == page.all("img") == page.all("iframe") == []
    assert [link["href"] for link in page.all("link")] == ["data:,"]
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")], tag
        assert not attributes.get("src"), tag
        if tag not in ("link",):
            assert (attributes.get("href") or "#").startswith("#"), tag
    [styles] = re.findall(r"<style>(.*?)</style>", markup[shape], re.DOTALL)
    assert "url(" not in styles
    assert "@import" not in styles


@pytest.mark.parametrize("shape", SHAPES)
def test_ids_are_unique_and_references_lead_somewhere(shape: str, pages: dict[str, Page]) -> None:
    elements = pages[shape].elements
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in elements:
        clips = re.findall(r"url\((#[^)]+)\)", attributes.get("clip-path") or "")
        targets = [attributes.get("href") or "", *clips]
        for target in targets:
            assert not target.startswith("#") or target[1:] in ids
        if "aria-labelledby" in attributes:
            assert attributes["aria-labelledby"] in ids


@pytest.mark.parametrize("shape", SHAPES)
def test_headings_go_down_one_step_at_a_time(shape: str, pages: dict[str, Page]) -> None:
    levels = [int(tag[1]) for tag, _ in pages[shape].elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below - above <= 1 for above, below in itertools.pairwise(levels))


@pytest.mark.parametrize("shape", SHAPES)
def test_every_figure_is_told_in_words_and_as_a_table(shape: str, pages: dict[str, Page]) -> None:
    page = pages[shape]
    told = [a["aria-label"] for a in page.all("div") if a.get("role") == "img"]
    figures = len(page.all("figure"))
    assert figures == {"full": 8, "minimal": 2, "hostile": 8}[shape]
    assert len(told) == len(page.all("figcaption")) == figures
    assert all(label and re.search(r"\d", label) for label in told)
    assert page.words.count("The numbers as a table") == figures
    regions = [a for a in page.all("div") if a.get("role") == "region"]
    assert len(regions) == len(page.all("table"))
    assert all(a["tabindex"] == "0" and a["aria-label"] for a in regions)


def test_the_first_thing_told_is_the_headline_and_the_verdict(pages: dict[str, Page]) -> None:
    report, words = full_report(), pages["full"].words.replace("\N{NO-BREAK SPACE}", " ")
    start = words.index("Verdict:")
    assert words.index("no-go") < start + 40
    for sentence in report.headline:
        assert start < words.index(sentence) < words.index("What translation keeps")
    assert "about 640 more probes" in words


@pytest.mark.parametrize(
    "figure",
    [
        "0.507 [0.482, 0.532]",  # recall@10
        "0.871 is what a comparison within the anchors gives",
        "+0.075 [+0.044, +0.107]",  # documents are easier
        "nDCG@10 translated - old -0.066 [-0.084, -0.048] < 0.001",
        "60 % ○ 0.838 [0.828, 0.848] 18,000 205,200 7 min 0.027",
        "2 labelled ids are not in the source, as missing-1 , 90210",
        "kernel-ridge 0.871 ridge 0.842 procrustes 0.770",
        "the same 32 texts asked twice: lowest cosine 0.999998",
        "30,000 texts, 342,000 tokens, 12 min, 0.044 of money",
    ],
)
def test_the_figures_of_the_report_are_on_the_page(figure: str, pages: dict[str, Page]) -> None:
    assert figure in pages["full"].words.replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(
    "reason",
    [
        "No gate was given",
        "No labels were given",
        "The old encoder was not given",
        "No price was given",
        "All vectors were ready-made",
        "No target recall was given",
        "No probe was measured by itself",
        "No document beside the anchors was re-embedded",
        "no candidates were compared",
    ],
)
def test_a_section_without_facts_says_why(reason: str, pages: dict[str, Page]) -> None:
    assert reason in pages["minimal"].words
    assert reason not in pages["full"].words


def test_money_is_told_only_with_a_price(pages: dict[str, Page]) -> None:
    heads = re.compile(r"share recall@10 texts tokens( time)?( money)? ")
    assert heads.search(pages["full"].words).groups() == (" time", " money")  # type: ignore[union-attr]
    assert heads.search(pages["minimal"].words).groups() == (None, None)  # type: ignore[union-attr]


def test_hostile_texts_are_shown_as_texts(pages: dict[str, Page], markup: dict[str, str]) -> None:
    page = pages["hostile"]
    for text in HOSTILE:
        assert trimmed(text, 220) in page.words
    # In a plot too.
    svgs = re.findall(r"<svg.*?</svg>", markup["hostile"], re.DOTALL)
    assert any("&lt;script&gt;alert" in svg for svg in svgs)
    assert "<script" not in markup["hostile"]


def test_a_predicted_variance_that_says_nothing_is_not_praised() -> None:
    def deciles(cosines: list[float]) -> list[CalibrationDecile]:
        return [CalibrationDecile(variance=0.1, cosine=cosine) for cosine in cosines]

    told = "knows where it is unsure"
    assert told in decile_plot(deciles([0.9, 0.85, 0.86, 0.8, 0.7])).finding
    assert told not in decile_plot(deciles([0.9, 0.7, 0.91, 0.72, 0.89])).finding
    assert told not in decile_plot(deciles([0.8] * 5)).finding
    assert told not in decile_plot(deciles([0.8])).finding


def test_the_finding_of_the_map_follows_the_losses() -> None:
    def probes(recalls: np.ndarray) -> list[ProbeLoss]:
        return [
            ProbeLoss(id=i, text=None, recall_at_10=float(r), x=float(x), y=float(y))
            for i, (r, (x, y)) in enumerate(zip(recalls, places, strict=True))
        ]

    rng = np.random.default_rng(0)
    places = rng.normal(size=(300, 2))
    regional = (places[:, 0] > 0).astype(float)
    assert "lie together in some regions" in loss_map(probes(regional), []).finding
    anywhere = rng.integers(0, 2, 300).astype(float)
    assert "are spread evenly" in loss_map(probes(anywhere), []).finding
    assert "too few, or too alike" in loss_map(probes(regional)[:20], []).finding
    assert "too few, or too alike" in loss_map(probes(np.ones(300)), []).finding


def test_degenerate_samples_can_be_drawn() -> None:
    assert "<svg" in cosine_histogram([1.0, 1.0]).svg
    assert "<svg" in score_plot([(0.5, 0.5)]).svg
    assert "<svg" in loss_histogram([ProbeLoss(id=1, text=None, recall_at_10=1, x=0, y=0)]).svg


def test_control_characters_never_reach_the_page(markup: dict[str, str]) -> None:
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", markup["hostile"])


def test_a_lone_surrogate_is_no_reason_to_have_no_page(tmp_path: Path) -> None:
    report = minimal_report().model_copy(update={"headline": ["half \ud83d of an emoji"]})
    assert "half \N{REPLACEMENT CHARACTER} of" in write_html(report, tmp_path).read_text()


def test_the_same_report_makes_the_same_page(tmp_path: Path, markup: dict[str, str]) -> None:
    (tmp_path / "report.html").write_text("an earlier one")
    assert write_html(full_report(), tmp_path).read_text() == markup["full"]


def test_the_page_stays_small(tmp_path: Path) -> None:
    full = full_report()
    book = DocumentText(id=1, text="a very long document " * 50_000)
    report = full.model_copy(
        update={
            "probe_losses": full.probe_losses * 50,
            "corpus_points": full.corpus_points * 30,
            "calibration": full.calibration.model_copy(
                update={"score_pairs": full.calibration.score_pairs * 50}
            ),
            "worst": [
                w.model_copy(update={"lost": [book] * 100, "gained": [book] * 100})
                for w in full.worst * 20
            ],
        }
    )
    assert write_html(report, tmp_path).stat().st_size < 2_000_000


def test_colours_are_those_of_the_theme(markup: dict[str, str]) -> None:
    [styles] = re.findall(r"<style>(.*?)</style>", markup["full"], re.DOTALL)
    defined = set(re.findall(r"(--[\w-]+):", styles))
    svgs = "".join(re.findall(r"<svg.*?</svg>", markup["full"], re.DOTALL))
    used = set(re.findall(r"var\((--[\w-]+)\)", svgs))
    assert used
    assert used <= defined
    assert re.findall(r"#[0-9a-f]{6}\b", svgs) == []


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match=r"report\.html"):
        write_html(minimal_report(), tmp_path / "none")


def test_importing_the_page_s_modules_loads_neither_matplotlib_nor_jinja() -> None:
    code = (
        "import vecmigrate.report.html, vecmigrate.cli.dry_run, vecmigrate.cli, sys, json;"
        "print(json.dumps([*sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"matplotlib", "jinja2"} & set(json.loads(done.stdout))


@pytest.mark.parametrize("make", [full_report, minimal_report, hostile_report])
def test_the_summary_for_a_terminal(make: object, capsys: pytest.CaptureFixture[str]) -> None:
    report: DryRunReport = make()  # type: ignore[operator]
    show(report, Output(as_json=False, quiet=False))
    out = capsys.readouterr().out
    assert report.verdict.outcome.value.replace("-", " ") in out.replace("-", " ")
    assert "0.507 [0.482, 0.532]" in out
    assert trimmed(report.headline[0], 600) in out
    assert ("met from 60 % on, in the order uncertainty" in out) == bool(report.curve.cheapest)
    assert ("No labels were given" in out) == (not report.upgrade.labelled)
    show(report, Output(as_json=True, quiet=False))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (percent(0.0), "0 %"), (percent(0.125), "12.5 %"), (percent(0.0034), "0.34 %"),
        (percent(1.0), "100 %"), (duration(0.002), "7 s"), (duration(0.5), "30 min"),
        (duration(30), "30.0 h"), (duration(None), "-"), (money(0), "0.00"),
        (money(0.00213), "0.0021"), (money(1234.5), "1,234.50"), (money(None), "-"),
        (p_value(0.0002), "< 0.001"), (p_value(0.0412), "0.041"),
        (trimmed("a\n b\t" + "c" * 30, 8), "a b ccc…"), (trimmed("a" * 200, 10), "a" * 9 + "…"),
        (trimmed("short", 10), "short"),
    ],
)  # fmt: skip
def test_how_figures_are_written(written: str, expected: str) -> None:
    assert written == expected


def test_routes_are_told_first(pages: dict[str, Page], capsys: pytest.CaptureFixture[str]) -> None:
    words = pages["full"].words
    first = words.index("two stages, 50")
    assert words.index("Verdict") < first < words.index(full_report().headline[0][:40])
    assert "route recall@10" in words
    assert "two stages" not in pages["minimal"].words
    show(full_report(), Output(as_json=False, quiet=False))
    out = capsys.readouterr().out
    assert out.split()[0] == "route"
    [chosen] = [
        line
        for line in out.splitlines()
        if line.startswith("\N{BLACK RIGHT-POINTING SMALL TRIANGLE}")
    ]
    assert chosen.split()[1:4] == ["re-embed", "60", "%"]
    assert out.count("two stages, 50") == 1


def test_routes_that_do_not_fit_are_told_in_two_parts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = Output(as_json=False, quiet=False)
    monkeypatch.setattr(output._console, "_width", 80)
    show(full_report(), output)
    lines = capsys.readouterr().out.splitlines()
    headline = full_report().headline[0][:30]
    table = lines[: next(at for at, line in enumerate(lines) if line.startswith(headline))]
    assert sum("two stages, 50" in line for line in table) == 2
    assert max(map(len, table)) <= 80
    assert "\N{HORIZONTAL ELLIPSIS}" not in "".join(table)


def test_reports_of_version_1_are_read(tmp_path: Path) -> None:
    facts = json.loads(full_report().model_dump_json())
    del facts["routes"]
    facts["schema_version"] = 1
    (tmp_path / "report.json").write_text(json.dumps(facts))
    report = load_report(tmp_path)
    assert report.routes is None
    assert report.recall == full_report().recall
    [compared] = compare_reports([tmp_path]).reports
    assert compared.route is None
    assert write_html(report, tmp_path).exists()
    facts["schema_version"] = 3
    (tmp_path / "report.json").write_text(json.dumps(facts))
    with pytest.raises(InputError, match="schema version 3"):
        load_report(tmp_path)
