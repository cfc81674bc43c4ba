"""Fixtures that several test files share."""

from __future__ import annotations

from pathlib import Path

import pytest
from corpus import Corpus, make_corpus


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return make_corpus(tmp_path)
