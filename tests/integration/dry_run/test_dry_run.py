"""The dry run as a whole: its estimates against the truth, its budget, its refusals."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import models
from support.dry_run_corpus import QUERIES, DryRunCorpus, N, TextEncoder, make_dry_run_corpus
from support.qdrant.edge_places import STORES, copied
from support.qdrant.places import open_place
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from typer.testing import CliRunner

from vecmigrate import load_anchors, load_translator, open_sink, open_source
from vecmigrate.cli import app
from vecmigrate.connector import Metric, TargetSpec, VectorBatch
from vecmigrate.dry_run import Budget, DryRunOptions, dry_run
from vecmigrate.errors import InputError, MismatchError, UsageError, VecmigrateError
from vecmigrate.evaluation import Query, exact_search, read_queries, recall_against
from vecmigrate.report.file import load_report
from vecmigrate.report.schema import DryRunReport, Estimate, Outcome, ProbeKind, RouteKind
from vecmigrate.translators.token_features import TokenTable

OPTIONS = DryRunOptions(anchors=400, budget=1300, method="ridge")


def changed(options: DryRunOptions, **values: Any) -> DryRunOptions:
    return DryRunOptions.given(options, values)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> DryRunCorpus:
    return make_dry_run_corpus(tmp_path_factory.mktemp("corpus"))


def run(corpus: DryRunCorpus, out: Path, **options: Any) -> DryRunReport:
    given: dict[str, Any] = {
        "old_encoder": corpus.old_encoder,
        "query_encoder": corpus.query_encoder,
        "queries": read_queries(corpus.log),
        "options": OPTIONS,
    }
    encoder = options.pop("encoder", corpus.encoder)
    source = options.pop("source", corpus.source)
    return dry_run(source, encoder, out, **{**given, **options})


@pytest.fixture(scope="module")
def report(corpus: DryRunCorpus, tmp_path_factory: pytest.TempPathFactory) -> DryRunReport:
    return run(corpus, tmp_path_factory.mktemp("out"))


def command(corpus: DryRunCorpus, out: Path, *more: object, code: int = 0) -> str:
    arguments = [
        "dry-run", corpus.source, "--encoder", corpus.encoder, "--query-encoder",
        corpus.query_encoder, "--queries", corpus.log, "--anchors", 400, "--budget", 1300,
        "--method", "ridge", "--out", out, *more,
    ]  # fmt: skip
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def search(points: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    batch = VectorBatch(np.arange(len(points)), np.ascontiguousarray(points, np.float32))
    return exact_search([batch], queries, k, Metric.DOT)


def holds(estimate: Estimate, truth: float) -> bool:
    return estimate.low <= truth <= estimate.high


def test_estimates_hold_the_truth_over_the_whole_corpus(
    corpus: DryRunCorpus, tmp_path: Path
) -> None:
    report = run(corpus, tmp_path)
    translated = load_translator(tmp_path / "translator.safetensors").transform(corpus.old)
    found, full = (search(v, corpus.new_queries, 100) for v in (translated, corpus.new))
    for k, estimate in report.recall.at.items():
        truth = recall_against(found, full, k).mean()
        assert close(estimate, truth), (k, estimate, truth)
    old = search(corpus.old, corpus.old_queries, 10)
    assert report.upgrade.agreement_at_10 is not None
    assert holds(report.upgrade.agreement_at_10, recall_against(old, full, 10).mean())
    relevant = [query.relevant for query in read_queries(corpus.log)]
    hits = np.mean([set(r) <= set(f) for r, f in zip(relevant, full[:, :10].tolist(), strict=True)])
    assert report.upgrade.labelled[0].name == "recall@10"
    reembedded = report.upgrade.labelled[0].reembedded
    assert holds(reembedded, hits) or abs(reembedded.value - hits) < 0.02


def close(estimate: Estimate, truth: float) -> bool:
    return holds(estimate, truth) or abs(estimate.value - truth) < 0.02


def test_what_each_route_serves_holds_the_truth(corpus: DryRunCorpus, tmp_path: Path) -> None:
    """The two-stage rows, and the mixtures in random order, beside exact search over everything."""
    options = changed(OPTIONS, order="random", queries_per_day=40)
    report = run(corpus, tmp_path, options=options)
    translated = load_translator(tmp_path / "translator.safetensors").transform(corpus.old)
    anchors = load_anchors(tmp_path / "anchors.parquet").ids
    full = search(corpus.new, corpus.new_queries, 10)
    labels = [query.relevant for query in read_queries(corpus.log)]
    rng = np.random.default_rng(0)
    others = rng.permutation(np.setdiff1d(np.arange(N), anchors))
    assert report.routes is not None
    seen = set()
    for route in report.routes.rows:
        seen.add(route.kind)
        if route.kind is RouteKind.TWO_STAGE:
            assert route.candidates is not None
            first = search(translated, corpus.new_queries, route.candidates)
            scores = np.einsum("qd,qmd->qm", corpus.new_queries, corpus.new[first])
            served = np.take_along_axis(first, np.argsort(-scores, axis=1)[:, :10], axis=1)
            assert route.query is not None
            truth = np.mean([
                len(np.setdiff1d(first[rng.permutation(QUERIES)[:40]], anchors)) / 40
                for _ in range(100)
            ])  # fmt: skip
            texts = route.query.texts
            assert holds(texts, truth) or texts.value == pytest.approx(truth, rel=0.02)
        elif route.kind is RouteKind.MIXED:
            assert route.share is not None
            fresh = [*anchors, *others[: round(route.share * N) - len(anchors)]]
            mixed = translated.copy()
            mixed[fresh] = corpus.new[fresh]
            served = search(mixed, corpus.new_queries, 10)
        else:
            served = search(translated, corpus.new_queries, 10)
            served = full if route.kind is RouteKind.REEMBED else served
        truth = float(recall_against(served, full, 10).mean())
        assert close(route.figures["recall@10"], truth), (route, truth)
        hits = [set(r) <= set(f) for r, f in zip(labels, served.tolist(), strict=True)]
        assert route.labelled[0].name == "recall@10"
        assert close(route.labelled[0].value, np.mean(hits)), (route, np.mean(hits))
    assert seen == set(RouteKind)


def test_a_route_can_be_asked_for(corpus: DryRunCorpus, tmp_path: Path) -> None:
    gate = ("--min-recall@10", 0.9, "--price-per-million-tokens", 2)
    facts = json.loads(command(corpus, tmp_path, *gate, "--route", "translate", "--json", code=10))
    assert facts["routes"]["chosen"] is None
    facts = json.loads(command(corpus, tmp_path, *gate, "--route", "re-embed", "--json"))
    [place] = [facts["routes"]["chosen"]]
    everything = facts["routes"]["rows"][place]
    assert everything["kind"] == "re-embed"
    assert everything["cost"]["texts"] == N - facts["spending"]["documents"] - 400
    facts = json.loads(command(corpus, tmp_path, *gate, "--route", "mixed", "--json"))
    mixture = facts["routes"]["rows"][facts["routes"]["chosen"]]
    assert mixture["share"] < 1
    assert mixture["figures"]["recall@10"]["low"] >= 0.9
    # It is the least share that does, and cheaper than everything.
    less = [r for r in facts["routes"]["rows"] if 0 < (r["share"] or 0) < mixture["share"]]
    assert all(r["outcome"] != "go" for r in less)
    assert 0 < mixture["cost"]["money"] < everything["cost"]["money"]
    out = command(corpus, tmp_path, *gate, "--route", "two-stage")
    assert "Next: " in out.splitlines()[-1]


@pytest.mark.parametrize("route", ["translate", "mixed", "re-embed"])
def test_the_command_that_is_told_goes_the_route(
    corpus: DryRunCorpus, tmp_path: Path, route: str
) -> None:
    out = command(corpus, tmp_path / "out", "--route", route, "--order", "random")
    told = out.splitlines()[-1].partition("Next: vecmigrate ")[2]
    target = f"faiss:{tmp_path / 'new.faiss'}"
    arguments = [target if word == "TARGET" else word for word in shlex.split(told)]
    state = ["--state", str(tmp_path / "state.db"), "--json"]
    result = CliRunner().invoke(app, [*arguments, *state], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    with open_source(target) as made:
        [batch] = made.batches(N)
    native = (np.abs(batch.vectors - corpus.new[batch.ids.astype(int)]) < 1e-6).all(axis=1)
    share = {"translate": 0.0, "mixed": 0.2, "re-embed": 1.0}[route]
    assert native.mean() == pytest.approx(share, abs=0.001)


def test_two_stages_are_reckoned_over_the_horizon(corpus: DryRunCorpus, tmp_path: Path) -> None:
    def horizon(*more: object) -> tuple[list[dict[str, Any]], int]:
        facts = json.loads(command(corpus, tmp_path, *more, "--json"))
        rows = [row for row in facts["routes"]["rows"] if row["kind"] == "two-stage"]
        return [row["over_horizon"] for row in rows], N - facts["spending"]["documents"] - 400

    assert horizon()[0] == [None] * 4
    few, left = horizon("--queries-per-day", 2, "--horizon", "2d")
    many, _ = horizon("--queries-per-day", 1000)
    assert [cost["texts"] for cost in few] == sorted(cost["texts"] for cost in few)
    assert 20 < few[0]["texts"] <= 80
    assert [cost["texts"] for cost in many] == [left] * 4


@pytest.mark.parametrize("queries", [True, False], ids=["log", "documents"])
def test_points_that_others_delete_meanwhile_are_passed_over(
    corpus: DryRunCorpus, report: DryRunReport, queries: bool, tmp_path: Path
) -> None:
    rng, deleted = np.random.default_rng(3), set[int]()
    with open_place("rest", tmp_path) as place:
        name = place.name()
        with open_source(corpus.source) as source:
            written = source.batches(1000)
            place.write(name, *written, dimension=corpus.old.shape[1], text_field="text")

        @contextmanager
        def stage(what: str, total: int, unit: str = "point") -> Iterator[Callable[[int], None]]:
            gone = rng.integers(0, N, 60).tolist()
            with place.client() as client:
                client.delete(name, models.PointIdsList(points=gone), wait=True)
            deleted.update(gone)
            yield lambda count: None

        log = {} if queries else {"queries": None, "old_encoder": None}
        asked = {"encoder": TextEncoder(corpus), "query_encoder": None, "stage": stage}
        asked["source"] = place.uri(name)
        found = run(corpus, tmp_path / "out", **asked, **log)
    assert len(deleted) > 200
    if queries:
        assert found.recall.at[10].value == pytest.approx(report.recall.at[10].value, abs=0.1)


@pytest.mark.parametrize("store", STORES[1:])
def test_an_engines_collection_is_estimated_as_the_same_index(
    corpus: DryRunCorpus, report: DryRunReport, store: str, tmp_path: Path
) -> None:
    moved = copied(corpus.source, store, tmp_path)
    found = run(corpus, tmp_path / "out", source=moved)
    assert found.recall.at.keys() == report.recall.at.keys()
    for k, estimate in report.recall.at.items():
        assert found.recall.at[k].value == pytest.approx(estimate.value, abs=0.01)
    fitted = load_translator(tmp_path / "out" / "translator.safetensors")
    assert fitted.transform(corpus.old).shape == corpus.new.shape


def test_a_sample_of_anchors_alone_overstates(report: DryRunReport) -> None:
    assert report.recall.in_sample_at_10 > report.recall.at[10].high


def test_the_curve_goes_from_all_translated_to_all_re_embedded(report: DryRunReport) -> None:
    assert {line.order for line in report.curve.lines} == {"traffic", "random"}
    for line in report.curve.lines:
        values = [point.recall_at_10.value for point in line.points]
        assert values[0] == pytest.approx(report.recall.at[10].value, abs=0.01)
        assert values[-1] == 1
        assert all(b >= a - 0.02 for a, b in pairwise(values))
    by_order = {line.order: line.points[5].recall_at_10.value for line in report.curve.lines}
    assert by_order["traffic"] > by_order["random"]


def test_the_cheapest_budget_is_the_first_that_surely_meets_the_target(
    corpus: DryRunCorpus, tmp_path: Path
) -> None:
    found = run(
        corpus, tmp_path, options=changed(OPTIONS, target_recall=0.9, price_per_million_tokens=2.0)
    ).curve
    assert found.cheapest is not None
    line = next(line for line in found.lines if line.order == found.chosen)
    before = [p for p in line.points if p.share < found.cheapest.share]
    assert all(p.recall_at_10.low < 0.9 for p in before)
    assert found.cheapest.recall_at_10.low >= 0.9
    assert found.cheapest.cost.texts == round(found.cheapest.share * N)
    assert found.cheapest.cost.money == pytest.approx(found.cheapest.cost.tokens * 2e-6)


@pytest.mark.parametrize("budget", [Budget(texts=1300), Budget(texts=1700), Budget(tokens=5000)])
def test_the_budget_bounds_all_that_is_embedded(
    corpus: DryRunCorpus, tmp_path: Path, budget: Budget
) -> None:
    encoder = TextEncoder(corpus)
    said: list[str] = []
    report = run(
        corpus,
        tmp_path,
        encoder=encoder,
        query_encoder=None,
        options=changed(OPTIONS, budget=str(budget)),
        announce=said.append,
    )
    spent = report.spending
    assert spent.spent.texts == len(encoder.texts)
    assert spent.spent.texts == spent.anchors + spent.queries + spent.documents
    if budget.texts is not None:
        assert 0.8 * budget.texts <= spent.spent.texts <= budget.texts
    if budget.tokens is not None:
        assert 0.7 * budget.tokens <= spent.spent.tokens <= budget.tokens
    assert str(budget) in said[0]
    assert spent.texts_per_second is not None
    assert spent.everything.hours is not None


def test_nothing_is_paid_for_twice(corpus: DryRunCorpus, tmp_path: Path) -> None:
    encoder = TextEncoder(corpus)
    first = run(corpus, tmp_path, encoder=encoder, query_encoder=None)
    asked = len(encoder.texts)
    again = run(corpus, tmp_path, encoder=encoder, query_encoder=None)
    checked = again.encoder_check
    assert checked is not None
    assert len(encoder.texts) - asked == checked.texts
    assert again.spending.reused == again.spending.spent.texts - checked.texts
    assert again.recall == first.recall
    assert again.worst == first.worst


def test_the_source_is_left_as_it_was(corpus: DryRunCorpus, tmp_path: Path) -> None:
    def digest() -> dict[str, str]:
        return {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in corpus.folder.iterdir()
        }

    before = digest()
    run(corpus, tmp_path)
    assert digest() == before
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {"anchors.parquet", "translator.safetensors"}


def test_the_seed_decides_everything(
    corpus: DryRunCorpus, report: DryRunReport, tmp_path: Path
) -> None:
    again = run(corpus, tmp_path)
    assert again.recall == report.recall
    assert again.upgrade == report.upgrade
    assert again.curve == report.curve


def test_without_a_log_held_out_documents_ask(corpus: DryRunCorpus, tmp_path: Path) -> None:
    report = run(corpus, tmp_path, queries=None, query_encoder=None)
    assert report.probes.kind is ProbeKind.DOCUMENTS
    assert report.probes.anchors_excluded > 0
    anchors = set(load_anchors(tmp_path / "anchors.parquet").ids.tolist())
    asked = [loss.id for loss in report.probe_losses]
    assert not anchors & set(asked)
    assert any("easier than what users ask" in line for line in report.headline)
    translated = load_translator(tmp_path / "translator.safetensors").transform(corpus.old)
    rows = np.setdiff1d(np.arange(N), list(anchors))
    found, full = (search(v, corpus.new[rows], 11) for v in (translated, corpus.new))
    shares = []
    for row, a, b in zip(rows.tolist(), found.tolist(), full.tolist(), strict=True):
        mine, theirs = ([i for i in ids if i != row][:10] for ids in (a, b))
        shares.append(len(set(mine) & set(theirs)) / 10)
    assert abs(report.recall.at[10].value - np.mean(shares)) < 0.04
    assert {line.order for line in report.curve.lines} == {"random"}


def test_with_a_log_it_says_how_much_easier_documents_are(report: DryRunReport) -> None:
    assert report.probes.kind is ProbeKind.QUERY_LOG
    documents, easier = report.recall.documents_at_10, report.recall.documents_easier_by
    assert documents is not None
    assert easier is not None
    assert easier.value == pytest.approx(documents.value - report.recall.at[10].value)
    assert any("Documents as queries would have said" in line for line in report.headline)


def test_uncertainty_orders_the_curve_where_the_method_tells_it(
    corpus: DryRunCorpus, tmp_path: Path
) -> None:
    options = changed(OPTIONS, method="kernel-ridge", order="uncertainty")
    report = run(corpus, tmp_path, options=options)
    assert report.curve.chosen == "uncertainty"
    assert len(report.calibration.deciles) in (0, 10)


class _TableEncoder(TextEncoder):
    """An encoder whose first layer knows each document's number, and so its vector."""

    def token_table(self) -> TokenTable:
        words = {"document": 0, **{str(i): i + 1 for i in range(N)}, "?": N + 1}
        tokenizer = Tokenizer(WordLevel(words, unk_token="?"))
        tokenizer.pre_tokenizer = Whitespace()
        edge = np.zeros((1, self.corpus.new.shape[1]), np.float32)
        return TokenTable(tokenizer.to_str(), np.concatenate([edge, self.corpus.new, edge]))


def test_texts_are_read_where_the_encoder_has_a_token_table(
    corpus: DryRunCorpus, tmp_path: Path
) -> None:
    options = changed(OPTIONS, method="kernel-ridge")
    encoder = _TableEncoder(corpus)
    found = {}
    for read in (True, False):
        report = run(corpus, tmp_path / str(read), encoder=encoder, query_encoder=None,
                     options=changed(options, texts=read))  # fmt: skip
        assert report.translator.reads_texts is read
        found[read] = report.recall.at[10]
    assert found[True].low > found[False].high
    translator = load_translator(tmp_path / "True" / "translator.safetensors")
    inputs = translator.inputs(corpus.old, [f"document {i}" for i in range(N)])
    mine, full = (
        search(v, corpus.new_queries, 10) for v in (translator.transform(inputs), corpus.new)
    )
    assert holds(found[True], recall_against(mine, full, 10).mean())


def test_ids_may_be_strings(corpus: DryRunCorpus, report: DryRunReport, tmp_path: Path) -> None:
    """The same corpus under names gives the same figures, but for draws that ids play a part in."""
    names = np.array([f"doc-{i}" for i in range(N)], object)
    payloads = [{"text": f"document {i}"} for i in range(N)]
    spec = TargetSpec(dimension=corpus.old.shape[1], metric=Metric.DOT, text_field="text")
    with open_sink(f"faiss:{tmp_path}/named.faiss", spec) as sink:
        sink.write(VectorBatch(names, corpus.old, payloads))
        sink.finish()
    ids = {name: i for i, name in enumerate(names)}
    np.savez(tmp_path / "new.npz", ids=names.astype(str), vectors=corpus.new)
    queries = [
        query.model_copy(update={"relevant": {f"doc-{i}": g for i, g in query.relevant.items()}})
        for query in read_queries(corpus.log)
    ]
    found = dry_run(
        f"faiss:{tmp_path}/named.faiss", f"vectors:{tmp_path}/new.npz?name=new-model",
        tmp_path / "out", old_encoder=corpus.old_encoder, query_encoder=corpus.query_encoder,
        queries=queries, options=OPTIONS,
    )  # fmt: skip
    assert found.upgrade.unknown_label_count == 0
    assert abs(found.recall.at[10].value - report.recall.at[10].value) < 0.03
    assert abs(found.upgrade.labelled[2].old.value - report.upgrade.labelled[2].old.value) < 0.05  # type: ignore[union-attr]
    assert all(document.id in ids for probe in found.worst for document in probe.lost)


def test_queries_that_cannot_be_used_are_counted(corpus: DryRunCorpus, tmp_path: Path) -> None:
    queries = read_queries(corpus.log)
    anchors_text = "document 7"
    odd = [
        Query(id=1000, text=None),
        Query(id=1001, text="  "),
        queries[0].model_copy(update={"id": 1002}),
    ]
    encoder = TextEncoder(corpus)
    report = run(corpus, tmp_path / "a", encoder=encoder, query_encoder=None,
                 queries=[*queries, *odd])  # fmt: skip
    assert report.probes.without_text == 2
    assert report.probes.duplicates == 1
    assert report.probes.available == QUERIES + 3
    anchor = load_anchors(tmp_path / "a" / "anchors.parquet").ids[0]
    leak = Query(id=1003, text=f"document {anchor}")
    report = run(corpus, tmp_path / "b", encoder=encoder, query_encoder=None,
                 queries=[*queries, leak])  # fmt: skip
    assert report.probes.anchors_excluded == 1
    assert anchors_text not in {loss.text for loss in report.probe_losses}


def test_labels_that_name_unknown_ids_are_listed(corpus: DryRunCorpus, tmp_path: Path) -> None:
    queries = [
        query.model_copy(update={"relevant": {**query.relevant, 9_000_000 + int(query.id): 1.0}})
        for query in read_queries(corpus.log)
    ]
    report = run(corpus, tmp_path, queries=queries)
    labelled = report.probes.labelled
    assert report.upgrade.unknown_label_count >= labelled
    assert all(int(i) >= 9_000_000 for i in report.upgrade.unknown_labels)
    assert report.upgrade.labelled[0].translated.value <= 0.5


def test_labels_of_their_own_file_replace_those_of_the_log(
    corpus: DryRunCorpus, tmp_path: Path
) -> None:
    qrels = tmp_path / "labels.qrels"
    queries = read_queries(corpus.log)
    qrels.write_text("".join(f"{q.id} 0 {next(iter(q.relevant))} 2\n" for q in queries))
    out = command(corpus, tmp_path / "out", "--labels", qrels, "--json")
    assert json.loads(out)["upgrade"]["labelled"][0]["name"] == "recall@10"
    with qrels.open("a") as file:
        file.write("77777 0 1 1\n")
    out = command(corpus, tmp_path / "out", "--labels", qrels)
    assert "1 labelled queries are not in the log: 77777" in out
    qrels.write_text("77777 0 1 1\n")
    out = command(corpus, tmp_path / "none", "--labels", qrels, code=3)
    assert "no query that --labels names" in out


def test_without_labels_or_old_encoder_it_says_what_was_not_measured(
    corpus: DryRunCorpus, tmp_path: Path
) -> None:
    plain = [query.model_copy(update={"relevant": {}}) for query in read_queries(corpus.log)]
    report = run(corpus, tmp_path / "a", queries=plain)
    assert report.upgrade.labelled == []
    assert "Without labels" in report.headline[0]
    assert len(report.upgrade.contrasts) == 10
    assert report.upgrade.contrasts[0].old[0].text is not None
    report = run(corpus, tmp_path / "b", queries=plain, old_encoder=None)
    assert "was not measured" in report.headline[0]


def test_the_new_encoder_is_called_no_better_where_it_is_not(report: DryRunReport) -> None:
    test = report.upgrade.labelled[2].reembedded_minus_old
    assert test is not None
    significant = test.p_value < 0.05
    assert ("is not shown to be better" in report.headline[0]) is not significant


REFUSALS: list[tuple[dict[str, Any], type[VecmigrateError], str]] = [
    ({"budget": 420}, UsageError, "too few for any estimate"),
    ({"budget": "1300 tokens"}, UsageError, "too few for any estimate"),
    ({"budget": 400}, UsageError, "leaves nothing for measuring"),
    ({"budget": N}, InputError, "would re-embed all"),
    ({"anchors": 2000}, InputError, "leave too little"),
    ({"order": "uncertainty"}, UsageError, "tells no uncertainty"),
]


@pytest.mark.parametrize(("changes", "kind", "message"), REFUSALS)
def test_what_cannot_be_measured_is_refused(
    corpus: DryRunCorpus, tmp_path: Path, changes: dict[str, Any], kind: type, message: str
) -> None:
    with pytest.raises(kind, match=message):
        run(corpus, tmp_path / "out", options=changed(OPTIONS, **changes))
    # What was made before the refusal is kept, and a folder of nothing is not.
    assert not (tmp_path / "out").exists() or any((tmp_path / "out").iterdir())


def test_an_empty_folder_that_was_there_stays(corpus: DryRunCorpus, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        run(corpus, tmp_path, options=changed(OPTIONS, budget=400))
    assert tmp_path.is_dir()


def test_inputs_that_do_not_belong_together_are_refused(
    corpus: DryRunCorpus, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="cannot encode queries"):
        run(corpus, tmp_path, query_encoder=None)
    with pytest.raises(MismatchError, match="does not make"):
        run(corpus, tmp_path, old_encoder=corpus.encoder)
    with pytest.raises(MismatchError, match="for documents of"):
        run(corpus, tmp_path, query_encoder=corpus.old_encoder)
    with pytest.raises(InputError, match="none of 2 queries"):
        run(corpus, tmp_path, encoder=TextEncoder(corpus), query_encoder=None,
            queries=[Query(id=1), Query(id=2)])  # fmt: skip
    with pytest.raises(UsageError, match="labelled metrics"):
        run(corpus, tmp_path, old_encoder=None,
            options=changed(OPTIONS, gates={"max-loss-ndcg@10": 0.1}))  # fmt: skip


def test_an_encoder_that_changes_its_mind_is_refused(corpus: DryRunCorpus, tmp_path: Path) -> None:
    encoder = TextEncoder(corpus, noise=0.05)
    with pytest.raises(InputError, match="two vectors of cosine"):
        run(corpus, tmp_path, encoder=encoder, query_encoder=None)


def test_a_folder_of_another_run_is_refused(corpus: DryRunCorpus, tmp_path: Path) -> None:
    run(corpus, tmp_path)
    with pytest.raises(MismatchError, match="drawn with other settings"):
        run(corpus, tmp_path, options=changed(OPTIONS, seed=1))
    with pytest.raises(MismatchError, match="was embedded by"):
        run(corpus, tmp_path, encoder=corpus.encoder.replace("new-model", "newer-model"))


def test_given_anchors_cost_nothing(corpus: DryRunCorpus, tmp_path: Path) -> None:
    run(corpus, tmp_path / "a")
    options = changed(OPTIONS, anchors=tmp_path / "a" / "anchors.parquet",
                       budget=950)  # fmt: skip
    report = run(corpus, tmp_path / "b", options=options)
    assert report.spending.anchors == 0
    assert report.translator.anchors == 400
    assert report.spending.spent.texts <= 950


@pytest.mark.parametrize(
    ("gates", "outcome", "code"),
    [
        (["--min-recall@10", 0.1], Outcome.GO, 0),
        (["--min-recall@10", 0.1, "--min-ndcg@10", 0.99], Outcome.GO, 0),
        (
            ["--route", "translate", "--min-recall@10", 0.1, "--min-ndcg@10", 0.99],
            Outcome.NO_GO,
            10,
        ),
        (["--route", "translate", "--min-recall@10", "estimate"], Outcome.TOO_SMALL, 11),
        ([], Outcome.MEASURED, 0),
    ],
)
def test_gates_decide_the_exit_code(
    corpus: DryRunCorpus,
    report: DryRunReport,
    tmp_path: Path,
    gates: list[object],
    outcome: Outcome,
    code: int,
) -> None:
    near = round(report.recall.at[10].value - 0.005, 3)
    gates = [near if gate == "estimate" else gate for gate in gates]
    more = ["--old-encoder", corpus.old_encoder]
    out = command(corpus, tmp_path, *more, *gates, code=code)
    stored = load_report(tmp_path)
    assert stored.verdict.outcome is outcome
    assert (tmp_path / "report.html").exists()
    assert "Next: " in out.splitlines()[-1]
    if outcome is Outcome.TOO_SMALL:
        more_probes = stored.verdict.gates[0].more_probes
        assert more_probes is not None
        assert more_probes > stored.probes.used
        assert f"{more_probes:,} more probes needed" in out


def test_the_metrics_file_tells_of_it(corpus: DryRunCorpus, tmp_path: Path) -> None:
    file = tmp_path / "vecmigrate.prom"
    command(corpus, tmp_path / "out", "--min-ndcg@10", 1, "--route", "translate",
            "--metrics-file", file, code=10)  # fmt: skip
    [code] = [line for line in file.read_text().splitlines() if "last_exit_code{" in line]
    assert 'command="dry-run"' in code
    assert f'target="{tmp_path / "out"}"' in code
    assert float(code.rpartition(" ")[2]) == 10


def test_json_is_the_report(corpus: DryRunCorpus, tmp_path: Path) -> None:
    out = command(corpus, tmp_path, "--json")
    assert DryRunReport.model_validate_json(out) == load_report(tmp_path)
    assert command(corpus, tmp_path, "--quiet") == ""
