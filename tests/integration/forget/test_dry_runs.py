"""What a dry run keeps of a point goes: anchors, bought vectors, texts of the page."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.dry_run_corpus import DryRunCorpus, TextEncoder, make_dry_run_corpus

from vecmigrate.anchors import draw_anchors, load_anchors
from vecmigrate.dry_run import DryRunOptions, dry_run
from vecmigrate.evaluation import read_queries
from vecmigrate.forget import Receipt, forget
from vecmigrate.report.file import load_report, save_report
from vecmigrate.report.html import write_html
from vecmigrate.report.schema import DryRunReport, ProbeKind

OPTIONS = DryRunOptions(anchors=400, budget=1300, method="ridge")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> DryRunCorpus:
    return make_dry_run_corpus(tmp_path_factory.mktemp("corpus"))


def measure(corpus: DryRunCorpus, out: Path, *, log: bool) -> tuple[DryRunReport, list[str]]:
    """Run a dry run whose embeddings are kept; return its report and what was encoded."""
    encoder = TextEncoder(corpus)
    queries = read_queries(corpus.log) if log else None
    old = corpus.old_encoder if log else None
    report = dry_run(corpus.source, encoder, out, OPTIONS, old_encoder=old, queries=queries)
    save_report(report, out)
    write_html(report, out)
    return report, encoder.texts


def told_of(report: DryRunReport) -> set[int]:
    """Documents whose texts the report shows."""
    shown = {each.id for probe in report.worst for each in (*probe.lost, *probe.gained)}
    for contrast in report.upgrade.contrasts:
        shown |= {each.id for each in (*contrast.old, *contrast.new)}
    if report.probes.kind is ProbeKind.DOCUMENTS:
        shown |= {loss.id for loss in report.probe_losses}
    return {int(i) for i in shown}


def files_telling(folder: Path, ids: set[int]) -> list[str]:
    named = re.compile(rb"document (?:" + b"|".join(b"%d" % i for i in ids) + rb")\b")
    return sorted(p.name for p in folder.rglob("*") if p.is_file() and named.search(p.read_bytes()))


def bought_points(folder: Path) -> set[int]:
    paths = folder.glob("embeddings/document-*.parquet")
    return {i for path in paths for i in pq.read_table(path)["point"].to_pylist()}


def removed(receipt: Receipt) -> dict[str, int]:
    found: dict[str, int] = {}
    for each in receipt.removed:
        found[each.what] = found.get(each.what, 0) + each.points
    return found


@pytest.mark.parametrize("log", [True, False], ids=["a query log", "documents as queries"])
def test_a_folder_holds_nothing_of_it(log: bool, corpus: DryRunCorpus, tmp_path: Path) -> None:
    report, _ = measure(corpus, tmp_path, log=log)
    anchor = int(load_anchors(tmp_path / "anchors.parquet").ids[0])
    gone = {anchor, *sorted(told_of(report))[:5]}
    gone |= set(sorted(bought_points(tmp_path))[:3])
    assert {"anchors.parquet", "report.html", "report.json"} <= set(files_telling(tmp_path, gone))
    receipt = forget(sorted(gone), tmp_path / "state.sqlite", folders=[tmp_path])
    assert files_telling(tmp_path, gone) == []
    assert not bought_points(tmp_path) & gone
    assert not set(load_anchors(tmp_path / "anchors.parquet").ids.tolist()) & gone
    assert receipt.found_nowhere == ()
    assert removed(receipt).keys() >= {"anchors", "bought vectors", "page", "report"}
    left = load_report(tmp_path)
    assert left.recall == report.recall
    assert left.probes == report.probes
    if log:
        # A query's number is no document's.
        assert [loss.id for loss in left.probe_losses] == [loss.id for loss in report.probe_losses]


def test_what_is_left_is_not_bought_again(corpus: DryRunCorpus, tmp_path: Path) -> None:
    measure(corpus, tmp_path, log=True)
    # An encoder is asked for some texts in each run, to see whether it still gives the same.
    _, checked = measure(corpus, tmp_path, log=True)
    anchors = set(load_anchors(tmp_path / "anchors.parquet").ids.tolist())
    others = {int(each.split()[1]) for each in checked}
    gone = sorted(bought_points(tmp_path) - anchors - others)[:4]
    forget(gone, tmp_path / "state.sqlite", folders=[tmp_path])
    _, encoded = measure(corpus, tmp_path, log=True)
    # A query whose number is a document's id is asked for again, too.
    again = {each for each in set(encoded) - set(checked) if each.startswith("document")}
    assert again == {f"document {i}" for i in gone}


def test_bought_vectors_that_name_no_points_are_named(corpus: DryRunCorpus, tmp_path: Path) -> None:
    measure(corpus, tmp_path, log=True)
    part = next(tmp_path.glob("embeddings/document-*.parquet"))
    pq.write_table(pq.read_table(part).drop_columns("point"), part)  # as before there was one
    receipt = forget([1], tmp_path / "state.sqlite", folders=[tmp_path])
    assert [str(part) in each.place for each in receipt.left] == [True]


def test_an_unfinished_draw(corpus: DryRunCorpus, tmp_path: Path) -> None:
    from vecmigrate import open_source

    class Stops(TextEncoder):
        def encode(self, texts, **given):  # type: ignore[no-untyped-def]
            if self.texts:
                raise KeyboardInterrupt
            return super().encode(texts, **given)

    out, settings = tmp_path / "a.parquet", {"size": 60, "batch_size": 20}
    with open_source(corpus.source) as source, pytest.raises(KeyboardInterrupt):
        draw_anchors(source, Stops(corpus), out, **settings)
    drawn = tmp_path / "a.parquet.partial" / "sample.parquet"
    bought = next((tmp_path / "a.parquet.partial").glob("document-*.parquet"))
    first = pq.read_table(bought)["point"].to_pylist()[0]
    receipt = forget([first], tmp_path / "state.sqlite", folders=[tmp_path])
    assert removed(receipt) == {"bought vectors": 1, "drawn anchors": 1}
    assert first not in pq.read_table(drawn)["id"].to_pylist()
    assert first not in pq.read_table(bought)["point"].to_pylist()
    with open_source(corpus.source) as source:
        anchors = draw_anchors(source, TextEncoder(corpus), out, **settings)
    assert len(anchors) == 59
    assert first not in anchors.ids
