"""Fixtures that several test files share."""

from __future__ import annotations

from pathlib import Path

import pytest
from corpus import Corpus, make_corpus


@pytest.fixture(autouse=True)
def state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state file of each test's own, for what it runs in a process of its own too."""
    path = tmp_path_factory.mktemp("state") / "state.sqlite"
    monkeypatch.setenv("VECMIGRATE_STATE", str(path))
    return path


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return make_corpus(tmp_path)
