"""Jobs of the corpus that a dry run is tried on."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.dry_run_corpus import DryRunCorpus, make_dry_run_corpus

from vecmigrate.state import STATE_VARIABLE


@pytest.fixture(autouse=True)
def _state_beside_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(STATE_VARIABLE, raising=False)


@pytest.fixture
def corpus(tmp_path: Path) -> DryRunCorpus:
    return make_dry_run_corpus(tmp_path)
