"""What a lossy collection lost, measured against the vectors that it was built from."""

from __future__ import annotations

import json
from pathlib import Path

import faiss
import numpy as np
import pytest
from support.faiss.cases import COUNT, build, rows
from support.faiss.indexes import save
from typer.testing import CliRunner

from vecmigrate import open_source
from vecmigrate.cli import app
from vecmigrate.connector import MismatchError
from vecmigrate.errors import ExitCode
from vecmigrate.inspection import reconstruction_error

VECTORS = rows()


def uris(tmp_path: Path, words: str, metric: int = faiss.METRIC_L2) -> tuple[str, str]:
    lossy = build(f"IDMap2,{words}", VECTORS, metric, np.arange(COUNT) * 3)
    flat = build("IDMap2,Flat", VECTORS[::-1].copy(), metric, np.arange(COUNT)[::-1] * 3)
    return save(lossy, tmp_path / "lossy.faiss"), save(flat, tmp_path / "flat.faiss")


@pytest.mark.parametrize("words", ["SQ4", "PQ12x4", "PQ24x4"])
def test_the_error_is_that_of_the_codes(tmp_path: Path, words: str) -> None:
    """FAISS's own encoding and decoding gives the same figures."""
    lossy, flat = uris(tmp_path, words)
    with open_source(lossy) as source, open_source(flat) as originals:
        found = reconstruction_error(source, originals, size=COUNT)
    whole = faiss.read_index(str(tmp_path / "lossy.faiss"))
    index = faiss.downcast_index(whole.index)
    decoded = index.sa_decode(index.sa_encode(VECTORS)).astype(np.float64)
    lengths = np.linalg.norm(VECTORS, axis=1)
    off = np.linalg.norm(decoded - VECTORS, axis=1) / lengths
    cosines = (decoded * VECTORS).sum(axis=1) / lengths / np.linalg.norm(decoded, axis=1)
    assert (found.compared, found.missing) == (COUNT, 0)
    assert found.mean == pytest.approx(off.mean(), rel=1e-4)
    assert found.p95 == pytest.approx(np.quantile(off, 0.95), rel=1e-4)
    assert found.maximum == pytest.approx(off.max(), rel=1e-4)
    assert found.cosine_mean == pytest.approx(cosines.mean(), abs=1e-5)
    assert found.mean > 0.005


def test_an_exact_collection_lost_nothing(tmp_path: Path) -> None:
    _, flat = uris(tmp_path, "SQ8")
    with open_source(flat) as source, open_source(flat) as originals:
        found = reconstruction_error(source, originals, size=100)
    assert (found.compared, found.mean, found.maximum, found.cosine_mean) == (100, 0, 0, 1)


def test_points_that_the_originals_lack_are_counted(tmp_path: Path) -> None:
    lossy, _ = uris(tmp_path, "SQ8")
    part = build("IDMap2,Flat", VECTORS[:500], faiss.METRIC_L2, np.arange(500) * 3)
    some = save(part, tmp_path / "part.faiss")
    with open_source(lossy) as source, open_source(some) as originals:
        found = reconstruction_error(source, originals, size=COUNT)
        assert (found.compared, found.missing) == (500, COUNT - 500)
    none = save(
        build("IDMap2,Flat", VECTORS[:500], faiss.METRIC_L2, np.arange(500) * 3 + 1),
        tmp_path / "none.faiss",
    )
    with (
        open_source(lossy) as source,
        open_source(none) as originals,
        pytest.raises(MismatchError, match="none of the 50 points"),
    ):
        reconstruction_error(source, originals, size=50)


def test_inspect_shows_it(tmp_path: Path) -> None:
    lossy, flat = uris(tmp_path, "PQ12x4")
    ran = CliRunner().invoke(app, ["inspect", lossy, "--originals", flat])
    assert ran.exit_code == 0, ran.output
    assert f"{COUNT:,} vectors of {flat}" in ran.output
    assert "95% within" in ran.output
    as_json = CliRunner().invoke(app, ["inspect", lossy, "--originals", flat, "--json"])
    assert json.loads(as_json.output)["reconstruction_error"]["compared"] == COUNT
    other = save(build("Flat", VECTORS[:, :16].copy(), faiss.METRIC_L2), tmp_path / "o.faiss")
    wrong = CliRunner().invoke(app, ["inspect", lossy, "--originals", other])
    assert wrong.exit_code == ExitCode.MISMATCH, wrong.output
    assert "48 dimensions" in wrong.output
