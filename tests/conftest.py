"""Fixtures that several test files share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.corpus import Corpus, make_corpus
from support.embedding_server import EmbeddingServer, embedding_server

from vecmigrate.runtime.waiting import Patience

# With one process left to run a long file, the others would wait at the end.
LONGEST = (
    "test_ray",
    "test_wordnet",
    "test_docs",
    "qdrant/test_cases",
    "qdrant/test_in_place_life",
    "qdrant/test_snapshot",
    "qdrant/test_edge",
    "test_resume",
    "faiss/test_kinds",
    "test_sync",
    "test_live_pairs",
    "qdrant/test_features",
    "test_jobs",
    "test_contribute",
    "qdrant/test_lease",
    "test_dry_run",
    "test_cutover",
    "qdrant/test_in_place",
    "test_faults",
    "qdrant/test_changed_since",
    "test_dead_worker",
    "test_partitions",
    "qdrant/test_feature_rules",
    "test_lancedb",
    "test_waiting",
    "test_history",
    "test_token_features",
    "test_browser",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--record-qdrant",
        action="store_true",
        help="keep how the tests end at VECMIGRATE_TEST_QDRANT_URL (support/qdrant/recording.py)",
    )


def pytest_configure(config: pytest.Config) -> None:
    # pytest-xdist would begin with the files of most tests, and end with the longest ones.
    config.option.loadscopereorder = False
    if config.getoption("--record-qdrant"):
        # Its imports are of no use to other runs.
        from support.qdrant.recording import Recorder

        config.pluginmanager.register(Recorder())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest."""

    def place(item: pytest.Item) -> int:
        name = item.path.with_suffix("").as_posix()
        return next((i for i, end in enumerate(LONGEST) if name.endswith(end)), len(LONGEST))

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object | None) -> None:
    """End the run at once if a worker of pytest-xdist dies, and name the test that it was at.

    pytest-xdist itself starts another worker, which waits for ever if it gets a single test. With
    ``--max-worker-restart=0`` the other workers first do all that they have, and a worker that dies
    while it collects tests leaves exit code 0.
    """
    if error is None:
        return
    scheduler = node.config.pluginmanager.getplugin("dsession").sched
    test = scheduler.remove_node(node) if node in scheduler.nodes else None
    pytest.exit(f"worker {node.gateway.id} died in {test or 'no test'}: {error}", returncode=1)


@pytest.fixture(autouse=True)
def state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state file of each test's own, for what it runs in a process of its own too."""
    path = tmp_path_factory.mktemp("state") / "state.sqlite"
    monkeypatch.setenv("VECMIGRATE_STATE", str(path))
    return path


@pytest.fixture(autouse=True)
def _no_server_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that another test's server had is not that server, which went away."""
    monkeypatch.setattr("vecmigrate.runtime.waiting._patience", Patience())


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return make_corpus(tmp_path)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddingServer]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with embedding_server() as running:
        yield running
