"""Runs the logged queries through a search in two stages."""

from __future__ import annotations

from vecmigrate.encoders import encode_queries, open_encoder
from vecmigrate.evaluation.queries import read_queries
from vecmigrate.jobs.steps.base import JobContext, RunHooks, StepState, StepStatus, file_digest
from vecmigrate.search import open_searcher
from vecmigrate.search.prewarm import prewarm
from vecmigrate.state.steps import StepRecord


class PrewarmStep:
    """The log's queries, asked once of a new target, if it is to be searched in two stages."""

    name = "prewarm"

    def __init__(self, moving: JobContext) -> None:
        self._moving = moving

    def look(self) -> StepState:
        moving = self._moving
        if moving.candidates is None:
            return StepStatus.NOTHING.because("the target is not searched in two stages")
        if moving.spec.dry_run.queries is None:
            return StepStatus.NOTHING.because("there is no query log")
        record = moving.find(self.name)
        if record is not None and record.inputs == self._inputs():
            return StepStatus.DONE.because("the log's queries have been asked")
        return StepStatus.DUE.because(
            f"the log's queries embed what they find, {moving.candidates} candidates each"
        )

    def do(self, around: RunHooks) -> StepState:
        moving, spec = self._moving, self._moving.spec
        queries, candidates = spec.dry_run.queries, moving.candidates
        assert queries is not None
        assert candidates is not None
        asking = open_encoder(spec.target.query_encoder or spec.target.encoder)
        vectors = encode_queries(asking, read_queries(queries))
        with (
            open_searcher(
                moving.target, spec.target.encoder, state=moving.state, candidates=candidates,
                budget=spec.migrate.budget,
                price_per_million_tokens=spec.dry_run.price_per_million_tokens,
            ) as searcher,
            around.stoppable() as stop,
            around.stage("asking", len(vectors), unit="query") as advance,
        ):  # fmt: skip
            done = prewarm(searcher, vectors, stop=stop, progress=advance)
        moving.save(self.name, StepRecord(inputs=self._inputs()))
        return StepStatus.DONE.because(
            f"{done.queries:,} queries embedded {done.texts:,} texts; give readers the searcher"
        )

    def _inputs(self) -> dict[str, str]:
        moving, job = self._moving, self._moving.published()
        queries = moving.spec.dry_run.queries
        return {
            "migration": "" if job is None else job.provenance.run(),
            "queries": "" if queries is None else file_digest(queries),
            "candidates": f"{moving.candidates}",
        }
