"""A job takes the route that it names, or the cheapest that meets its gates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.dry_run_corpus import DryRunCorpus, N
from support.job_files import arrive, call, done_now, write_job

from vecmigrate import open_searcher, open_source
from vecmigrate.errors import ExitCode
from vecmigrate.report.file import load_report
from vecmigrate.report.schema import RouteKind

CUTOVER = '[cutover]\nname = "faiss:current.faiss"'


def job_of(corpus: DryRunCorpus, route: str, *, gate: float = 0.1, more: str = "") -> Path:
    return write_job(corpus.folder, gate=gate, more=f'[migrate]\nroute = "{route}"\n{more}')


def planned(job: Path, *arguments: str) -> dict[str, Any]:
    result = call("plan", job, "--json", *arguments)
    assert result.exit_code == 0, result.output
    facts: dict[str, Any] = json.loads(result.stdout)
    return facts


def native(corpus: DryRunCorpus, target: str = "new.faiss") -> np.ndarray:
    """Tell, in the order of ids, which points have the new encoder's own vector."""
    with open_source(f"faiss:{corpus.folder}/{target}") as made:
        [batch] = made.batches(2 * N)
    own = np.load(corpus.folder / "new.npy")[batch.ids.astype(int)]
    same: np.ndarray = (np.abs(batch.vectors - own) < 1e-6).all(axis=1)
    return same[np.argsort(batch.ids)]


def test_everything_is_re_embedded_kept_in_step_and_cut_over_to(corpus: DryRunCorpus) -> None:
    job = job_of(corpus, "re-embed", more=f"{CUTOVER}\n[sync]\nreembed_budget = 5")
    plan = planned(job)
    assert plan["route"]["route"] == "re-embed"
    [migrate] = [step for step in plan["steps"] if step["step"] == "migrate"]
    assert migrate["takes"]["texts"] == N
    [verify] = [step for step in plan["steps"] if step["step"] == "verify"]
    assert verify["takes"]["texts"] == 1000
    assert done_now(job) == ["dry-run", "migrate", "verify"]
    assert native(corpus).all()
    assert planned(job)["route"]["route"] == "re-embed all"
    arrive(corpus, encoded=True)
    assert done_now(job) == ["sync", "verify"]
    assert len(native(corpus)) == N + 10
    assert native(corpus).all()
    assert done_now(job, "--cutover") == ["cutover"]
    assert done_now(job) == []


def test_the_cheapest_route_that_meets_the_gates_is_taken(corpus: DryRunCorpus) -> None:
    job = job_of(corpus, "auto", gate=0.6, more=CUTOVER)
    before = planned(job)["route"]
    assert before["route"] == "auto"
    assert before["cost"] is None
    assert done_now(job) == ["dry-run", "migrate", "verify"]
    routes = load_report(corpus.folder / "dry-run").routes
    assert routes is not None
    assert routes.choice is not None
    assert routes.choice.kind is RouteKind.MIXED
    assert routes.choice.share is not None
    assert native(corpus).mean() == pytest.approx(routes.choice.share, abs=1e-3)
    arrive(corpus, encoded=True)
    assert done_now(job) == ["sync", "verify"]
    assert native(corpus)[N:].all(), "new points are embedded"
    assert done_now(job, "--cutover") == ["cutover"]


def test_a_plan_tells_what_the_chosen_route_costs(corpus: DryRunCorpus) -> None:
    job = job_of(corpus, "mixed", gate=0.6, more="budget = 100")
    [migrate] = [step for step in planned(job)["steps"] if step["step"] == "migrate"]
    assert migrate["takes"]["texts"] == N, "at most"
    # The budget ends the run before anything is published.
    result = call("run", job)
    assert result.exit_code != 0
    assert not (corpus.folder / "new.faiss").exists()
    plan = planned(job)
    assert plan["route"]["route"].startswith("re-embed ")
    [migrate] = [step for step in plan["steps"] if step["step"] == "migrate"]
    assert migrate["takes"]["texts"] == plan["route"]["cost"]["texts"] > 100
    unmeasured = planned(job, "--no-measure")["steps"]
    [takes] = [step["takes"] for step in unmeasured if step["step"] == "migrate"]
    known = {name: takes[name] for name in ("texts", "tokens", "money")}
    assert known == {name: plan["route"]["cost"][name] for name in known}
    assert done_now(job_of(corpus, "mixed", gate=0.6)) == ["migrate", "verify"]


def test_translation_alone_is_judged_alone(corpus: DryRunCorpus) -> None:
    job = job_of(corpus, "translate", gate=0.9)
    assert call("run", job).exit_code == ExitCode.NO_GO
    assert not (corpus.folder / "new.faiss").exists()
    assert done_now(job_of(corpus, "translate")) == ["dry-run", "migrate", "verify"]
    share = 300 / N
    assert native(corpus).mean() == pytest.approx(share, abs=1e-3), "anchors are kept"


def test_what_is_searched_in_two_stages_is_translated_and_prewarmed(corpus: DryRunCorpus) -> None:
    job = job_of(corpus, "two-stage", gate=0.5)
    assert planned(job)["route"]["route"] == "two-stage"
    assert done_now(job) == ["dry-run", "migrate", "prewarm", "verify"]
    assert done_now(job) == []
    assert native(corpus).mean() > 0.2, "what the log's queries find has true vectors"
    kind = load_report(corpus.folder / "dry-run").routes.choice.kind
    assert kind is RouteKind.TWO_STAGE
    queries = np.load(corpus.folder / "new-queries.npy")
    truth = np.argsort(-(queries[:50] @ corpus.new.T), axis=1)[:, :10]
    state = corpus.folder / ".vecmigrate" / "state.sqlite"
    target, encoder = f"faiss:{corpus.folder}/new.faiss", corpus.encoder
    with open_searcher(target, encoder, state=state, candidates=200) as searcher:
        found = [[hit.id for hit in searcher.search(query).hits] for query in queries[:50]]
    kept = [len({*a} & {*b.tolist()}) / 10 for a, b in zip(found, truth, strict=True)]
    assert np.mean(kept) > 0.9


def test_another_route_needs_another_target(corpus: DryRunCorpus) -> None:
    done_now(job_of(corpus, "translate"))
    job = job_of(corpus, "re-embed")
    assert call("run", job).exit_code == ExitCode.MISMATCH
    assert done_now(job_of(corpus, "auto")) == []
