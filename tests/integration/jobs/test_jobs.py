"""A move in one file: read strictly, planned, run step by step, and passed over where it holds."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from contextlib import closing
from pathlib import Path

import faiss
import numpy as np
import pytest
from qdrant_client import QdrantClient, models
from support.crash import contents
from support.dry_run_corpus import DryRunCorpus, N
from support.forked import Forked
from support.job_files import arrive, call, done_now, write_job

from vecmigrate import open_sink, open_source
from vecmigrate.connector import TargetSpec
from vecmigrate.errors import InputError, UsageError
from vecmigrate.jobs import JobSpec, load_job

TRANSLATE = '[migrate]\nroute = "translate"'


def standings(job: Path, *arguments: str) -> dict[str, str]:
    result = call("plan", job, "--json", "--no-measure", *arguments)
    assert result.exit_code == 0, result.output
    steps = json.loads(result.stdout)["steps"]
    return {step["step"]: step["look"]["standing"] for step in steps}


def test_a_job_is_run_once_and_passed_over_after(corpus: DryRunCorpus) -> None:
    job = write_job(corpus.folder, more='[cutover]\nname = "faiss:current.faiss"')
    assert standings(job) == {
        "dry-run": "to do",
        "migrate": "to do",
        "sync": "nothing to do",
        "verify": "to do",
        "cutover": "left to you",
    }
    assert not (corpus.folder / ".vecmigrate").exists(), "a plan writes nothing"

    assert done_now(job) == ["dry-run", "migrate", "verify"]
    with open_source(f"faiss:{corpus.folder}/new.faiss") as target:
        assert target.describe().count == N
    assert not (corpus.folder / "current.faiss").exists(), "readers are led over when asked alone"
    assert done_now(job) == []

    assert done_now(job, "--cutover") == ["cutover"]
    with open_source(f"faiss:{corpus.folder}/current.faiss") as readers:
        assert readers.describe().dimension == corpus.new.shape[1]
    assert done_now(job, "--cutover") == []
    assert set(standings(job).values()) == {"done"}


def test_the_target_is_that_of_the_single_commands(corpus: DryRunCorpus) -> None:
    folder = corpus.folder
    done_now(write_job(folder))
    made = ["--translator", folder / "dry-run" / "translator.safetensors"]
    kept = ["--keep-anchors", folder / "dry-run" / "anchors.parquet"]
    result = call("migrate", corpus.source, f"faiss:{folder}/by-hand.faiss", *made, *kept)
    assert result.exit_code == 0, result.output
    assert contents(f"faiss:{folder}/new.faiss") == contents(f"faiss:{folder}/by-hand.faiss")


def test_a_gate_that_is_not_met_stops_the_job_with_nothing_written(corpus: DryRunCorpus) -> None:
    job = write_job(corpus.folder, gate=0.999, more=TRANSLATE)
    for _ in range(2):
        result = call("run", job)
        assert result.exit_code == 10
        assert "no-go" in result.output
        assert "Next:" in result.output
    report = (corpus.folder / "dry-run" / "report.json").stat().st_mtime_ns
    assert not (corpus.folder / "new.faiss").exists()
    assert standings(job)["dry-run"] == "failed"

    write_job(corpus.folder, gate=0.1)
    assert standings(job)["dry-run"] == "to do"
    assert done_now(job) == ["dry-run", "migrate", "verify"]
    assert (corpus.folder / "dry-run" / "report.json").stat().st_mtime_ns > report


def test_a_source_that_changed_is_brought_in_step_by_the_same_map(corpus: DryRunCorpus) -> None:
    job = write_job(corpus.folder)
    done_now(job)
    made = (corpus.folder / "dry-run" / "translator.safetensors").stat().st_mtime_ns
    arrive(corpus)
    assert standings(job)["sync"] == "to do"
    assert done_now(job) == ["sync", "verify"]
    with open_source(f"faiss:{corpus.folder}/new.faiss") as target:
        assert target.describe().count == N + 10
    assert (corpus.folder / "dry-run" / "translator.safetensors").stat().st_mtime_ns == made
    assert done_now(job) == []


def test_a_source_that_changed_before_the_migration_is_measured_again(
    corpus: DryRunCorpus,
) -> None:
    job = write_job(corpus.folder, gate=0.999, more=TRANSLATE)
    assert call("run", job).exit_code == 10
    arrive(corpus)
    plan = call("plan", job, "--no-measure", "--json")
    [dry_run, *_] = json.loads(plan.stdout)["steps"]
    assert dry_run["look"] == {
        "standing": "to do", "reason": "the source has changed", "exit_code": 0
    }  # fmt: skip


def test_a_budget_re_embeds_a_little_on_each_run(corpus: DryRunCorpus) -> None:
    job = write_job(corpus.folder, more="[sync]\nreembed_budget = 100")
    # The encoder of the corpus is a file, and sync gives texts to one: ids are looked up there.
    assert done_now(job) == ["dry-run", "migrate", "sync", "verify"]
    assert done_now(job) == ["sync", "verify"]
    shown = call(
        "status", f"faiss:{corpus.folder}/new.faiss", "--json",
        "--state", corpus.folder / ".vecmigrate" / "state.sqlite",
    )  # fmt: skip
    assert json.loads(shown.stdout)["encoded"] == 300 + 2 * 100


def test_qdrant_is_synced_each_time_since_it_does_not_tell_changes(corpus: DryRunCorpus) -> None:
    copy = f"qdrant:{corpus.folder}/storage/old"
    with open_source(corpus.source) as source:
        spec = TargetSpec.like(source.describe(), dimension=corpus.old.shape[1])
        with open_sink(copy, spec) as sink:
            for batch in source.batches(1000):
                sink.write(batch)
            sink.finish()
    job = write_job(corpus.folder)
    job.write_text(job.read_text().replace("faiss:old.faiss", "qdrant:storage/old"))
    assert done_now(job) == ["dry-run", "migrate", "verify"]
    assert done_now(job) == ["sync"]


def test_a_kill_while_it_migrates_is_continued(corpus: DryRunCorpus) -> None:
    more = "[migrate]\nbatch_size = 50\nmax_rate = 1000\ncheckpoint_seconds = 0"
    job = write_job(corpus.folder, more=more)
    with Forked("-m", "vecmigrate", "run", str(job), "-q") as process:
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            begun = [p for p in corpus.folder.iterdir() if p.is_dir() and "new.faiss" in p.name]
            if begun and any(p.stat().st_size > 20_000 for p in begun[0].iterdir()):
                break
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    assert not (corpus.folder / "new.faiss").exists()
    assert standings(job) == {
        "dry-run": "done", "migrate": "to continue", "sync": "nothing to do", "verify": "to do"
    }  # fmt: skip
    write_job(corpus.folder)
    assert done_now(job) == ["migrate", "verify"]
    history = call("history", "--json", "--state", corpus.folder / ".vecmigrate" / "state.sqlite")
    outcomes = [(run["command"], run["outcome"]) for run in json.loads(history.stdout)["runs"]]
    assert ("run", "killed") in outcomes
    assert outcomes[:3] == [("verify", "OK"), ("migrate", "OK"), ("run", "OK")]


def test_a_target_that_was_damaged_fails_its_verification_again_and_again(
    corpus: DryRunCorpus,
) -> None:
    job = write_job(corpus.folder, more="[verify]\nfull = true")
    done_now(job)
    path = str(corpus.folder / "new.faiss")
    index = faiss.read_index(path)
    inner = faiss.downcast_index(index.index) if hasattr(index, "id_map") else index
    stored = faiss.rev_swig_ptr(inner.get_xb(), index.ntotal * index.d)
    stored[: index.d] = 0.25
    faiss.write_index(index, path)
    for _ in range(2):
        result = call("run", job)
        assert result.exit_code == 6
        assert "verify: failed: vectors" in result.output


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("procrustes", "ridge"), "options of the map are other ones"),
        (("anchors = 300", "anchors = 400"), "options of the map are other ones"),
    ],
)
def test_a_published_target_is_not_made_otherwise_by_a_changed_job(
    change: tuple[str, str], said: str, corpus: DryRunCorpus
) -> None:
    job = write_job(corpus.folder)
    done_now(job)
    before = contents(f"faiss:{corpus.folder}/new.faiss")
    job.write_text(job.read_text().replace(*change))
    result = call("run", job)
    assert result.exit_code == 5
    assert said in result.output
    assert contents(f"faiss:{corpus.folder}/new.faiss") == before


def test_gates_may_change_after_the_target_is_there(corpus: DryRunCorpus) -> None:
    job = write_job(corpus.folder)
    done_now(job)
    write_job(corpus.folder, gate=0.999)
    assert done_now(job) == []


def test_somebody_else_s_target_is_refused_before_anything_is_paid_for(
    corpus: DryRunCorpus,
) -> None:
    job = write_job(corpus.folder)
    index = faiss.IndexFlatIP(4)
    index.add(np.ones((3, 4), np.float32))
    faiss.write_index(index, str(corpus.folder / "new.faiss"))
    for command in ("plan", "run"):
        result = call(command, job)
        assert result.exit_code == 4
        assert "no run of this job made it" in result.output
    assert not (corpus.folder / "dry-run").exists()


def test_a_source_that_leads_to_the_target_is_refused(corpus: DryRunCorpus) -> None:
    job = write_job(corpus.folder, more='[cutover]\nname = "faiss:current.faiss"')
    done_now(job, "--cutover")
    job.write_text(job.read_text().replace("faiss:old.faiss", "faiss:current.faiss"))
    result = call("run", job)
    assert result.exit_code == 5
    assert "leads to faiss:new.faiss itself" in result.output


def test_a_second_run_says_who_has_the_job(corpus: DryRunCorpus) -> None:
    more = "[migrate]\nbatch_size = 50\nmax_rate = 200"
    job = write_job(corpus.folder, more=more)
    with Forked("-m", "vecmigrate", "run", str(job), "-q") as process:
        locks = corpus.folder / ".vecmigrate" / "locks"
        while not list(locks.glob("*-run.lock")) and process.poll() is None:
            time.sleep(0.01)
        time.sleep(0.2)
        result = call("run", job)
        process.terminate()
    assert result.exit_code == 12
    assert f"process {process.pid}" in result.output
    assert process.returncode == 143


def test_what_a_plan_takes(corpus: DryRunCorpus) -> None:
    job = write_job(corpus.folder)
    job.write_text(
        job.read_text().replace("anchors = 300", "anchors = 300\nprice_per_million_tokens = 2.0")
    )
    result = call("plan", job, "--json")
    assert result.exit_code == 0, result.output
    plan = json.loads(result.stdout)
    assert plan["points"] == N
    dry_run, migrate, sync, verify = (step["takes"] for step in plan["steps"])
    assert dry_run["texts"] == 1500
    # "document 12" and the like, four characters a token.
    assert 1500 * 2 < dry_run["tokens"] <= 1500 * 4
    assert dry_run["money"] == pytest.approx(dry_run["tokens"] * 2e-6)
    assert migrate["vector_bytes"] == 4 * N * corpus.new.shape[1]
    assert min(step["seconds"] for step in (dry_run, migrate, verify)) > 0
    assert sync["seconds"] is None
    shown = call("plan", job).output
    assert "1,500" in shown
    assert f"Next: vecmigrate run '{job}'" in shown


def test_paths_are_seen_from_the_job_s_folder(
    corpus: DryRunCorpus, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = write_job(corpus.folder)
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert done_now(job) == ["dry-run", "migrate", "verify"]
    assert list(Path.cwd().iterdir()) == []
    monkeypatch.chdir(corpus.folder)
    assert done_now(Path("vecmigrate.toml")) == []
    assert done_now(Path("vecmigrate.toml"), "--state", ".vecmigrate/state.sqlite") == []


MISTAKES: list[tuple[str, str]] = [
    ("[source]\nurl = 'faiss:a'", "source.url is not known (did you mean source.uri?)"),
    ("on_bad_vectr = 'skip'", "on_bad_vectr is not known (did you mean on_bad_vector?)"),
    ("[gates]\n'min-recal@10' = 0.5", 'did you mean gates."min-recall@10"?'),
    ("[gates]\n'min-recall@10' = 9", 'gates."min-recall@10": input should be less than or equal'),
    ("[dry_run]\nanchors = 1", "dry_run.anchors: input should be greater than or equal to 2"),
    ("[dry_run]\nmethod = 'magic'", "dry_run.method: input should be 'auto'"),
    ("[cutover]\n", "cutover.name is missing"),
    ("[verify]\nfull = true\nsample = 5", "verify: --full and --sample exclude one another"),
    ("[migrate]\nbatch_size = 'x'", "migrate.batch_size: input should be a valid integer"),
    ("[migrate]\nbudget = 'lots'", "migrate.budget: 'lots' is not a budget"),
    ("[sync]\nreembed_budget = 'lots'", "sync.reembed_budget: 'lots' is not a budget"),
    ("[source\n", "is not TOML"),
    ("target = 3", "target: input should be a valid dictionary"),
]


@pytest.mark.parametrize(("text", "said"), MISTAKES)
def test_a_mistake_is_named_by_file_and_key(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        load_job(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    result = call("plan", path)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "line",
    [
        'uri = "qdrant://host/c?api_key=s3cr3t-value"',
        'uri = "qdrant://me:s3cr3t-value@host/c"',
        'uri = "faiss:a"\napi_key = "s3cr3t-value"',
        'uri = "faiss:a"\nencoder = "openai:m?token=s3cr3t-value"',
    ],
)
def test_a_secret_in_the_file_is_refused_and_not_repeated(line: str, tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text(f"[source]\n{line}\n")
    result = call("run", path)
    assert result.exit_code == 2
    assert "holds a secret" in result.output
    assert "s3cr3t" not in result.output


def test_a_job_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.toml cannot be read"):
        load_job(tmp_path / "none.toml")


def test_the_docs_job_is_one(tmp_path: Path) -> None:
    page = Path(__file__).parents[3] / "docs" / "how-to" / "schedule.md"
    [text] = re.findall(r"^```toml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "job.toml").write_text(text)
    assert load_job(tmp_path / "job.toml").gates == {"min-recall@10": 0.6}


def test_every_field_of_a_job_is_described() -> None:
    for name, section in JobSpec.model_json_schema()["$defs"].items():
        for field, facts in section.get("properties", {}).items():
            assert "description" in facts, f"{name}.{field}"


def test_the_way_back_is_kept_after_the_cutover(corpus: DryRunCorpus) -> None:
    store = f"qdrant:{corpus.folder}/q"
    old, new, live = (f"{store}/{name}" for name in ("old", "new", "live"))
    with (
        open_source(corpus.source) as given,
        open_sink(old, TargetSpec.like(given.describe())) as sink,
    ):
        for batch in given.batches(1000):
            sink.write(batch)
        sink.finish()
    with closing(QdrantClient(path=f"{corpus.folder}/q")) as client:
        alias = models.CreateAlias(collection_name="old", alias_name="live")
        client.update_collection_aliases([models.CreateAliasOperation(create_alias=alias)])
    job = write_job(corpus.folder, target=new, more=f'[cutover]\nname = "{live}"\nkeep_back = "7d"')
    job.write_text(job.read_text().replace("faiss:old.faiss", old))
    assert standings(job)["sync-back"] == "nothing to do"
    assert done_now(job, "--cutover") == ["dry-run", "migrate", "verify", "cutover", "sync-back"]
    with closing(QdrantClient(path=f"{corpus.folder}/q")) as client:
        native = models.PointStruct(
            id=10**6, vector=corpus.new[0].tolist(), payload={"text": "native"}
        )
        client.upsert("live", [native])
        client.delete("live", [1])
    assert "sync-back" in done_now(job)
    with open_source(old) as back:
        ids = set(np.concatenate(list(back.ids(10_000))).tolist())
        assert 10**6 in ids
        assert 1 not in ids
    assert "sync-back" in done_now(job)
    state = corpus.folder / ".vecmigrate" / "state.sqlite"
    assert call("rollback", live, "--state", state).exit_code == 0
