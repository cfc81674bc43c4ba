"""A translator that names a method is offered, compared, fitted, saved and read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pytest
from numpy.typing import ArrayLike

from vecmigrate import load_translator, save_translator
from vecmigrate.errors import MismatchError, UsageError
from vecmigrate.translators import base
from vecmigrate.translators.base import AffineTranslator, check_anchors, registered
from vecmigrate.translators.fit import FitOptions, candidates, fit_translator, methods


@pytest.fixture(autouse=True)
def _own_register(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "REGISTER", dict(base.REGISTER))


def least_squares(rank: int) -> type[AffineTranslator]:
    class LeastSquares(AffineTranslator):
        """The affine map of least squared error."""

        method: ClassVar[str] = "least-squares"

        def fit(self, X: ArrayLike, Y: ArrayLike) -> Self:
            x, y = check_anchors(X, Y)
            design = np.c_[x, np.ones(len(x))]
            solved = np.linalg.lstsq(design, y, rcond=None)[0]
            self._set_map(solved[:-1], solved[-1], len(x))
            self.normalize_output_ = False
            return self

    LeastSquares.rank = rank
    return LeastSquares


def anchors(n: int = 80) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, 6))
    return X, X @ rng.standard_normal((6, 4)) + rng.standard_normal(4)


def test_it_is_offered_and_compared_in_its_rank() -> None:
    before = list(registered())
    assert [name for name in before if name in ("procrustes", "ridge", "kernel-ridge")] == [
        "procrustes",
        "ridge",
        "kernel-ridge",
    ]
    least_squares(rank=1)
    after = list(registered())
    assert [name for name in after if name != "least-squares"] == before
    assert after.index("ridge") < after.index("least-squares") < after.index("kernel-ridge")
    assert methods() == ["auto", *after]
    compared = list(candidates(0))
    assert compared.index("ridge") < compared.index("least-squares")
    assert FitOptions(method="least-squares").fits(with_texts=False) == 1


def test_it_is_fitted_saved_and_read(tmp_path: Path) -> None:
    made = least_squares(rank=3)
    X, Y = anchors()
    translator, table = fit_translator(X, Y, method="least-squares")
    assert table == []
    assert type(translator) is made
    np.testing.assert_allclose(translator.transform(X.astype(np.float32)), Y, atol=1e-4)
    save_translator(translator, tmp_path / "t")
    again = load_translator(tmp_path / "t")
    assert type(again) is made
    rows = X.astype(np.float32)
    np.testing.assert_array_equal(again.transform(rows), translator.transform(rows))


def test_another_module_s_method_is_not_replaced() -> None:
    with pytest.raises(TypeError):
        type("Other", (base.AffineTranslator,), {"method": "ridge"})
    assert registered()["ridge"].__module__ == "vecmigrate.translators.ridge"


PLUGIN = """
from vecmigrate import Procrustes
class Rotation(Procrustes):
    method = "rotation"
"""


@pytest.mark.parametrize("breaks", [False, True])
def test_a_third_party_s_is_found_by_its_entry_point(breaks: bool, tmp_path: Path) -> None:
    (tmp_path / "their_map.py").write_text("import gone" if breaks else PLUGIN)
    facts = tmp_path / "their_map-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: their-map\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[vecmigrate.translators]\nrotation = their_map\n")
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    found = subprocess.run(
        [sys.executable, "-c", "from vecmigrate.translators.fit import methods; print(methods())"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ("'rotation'" in found.stdout) is not breaks
    assert "'ridge'" in found.stdout
    assert ("TranslatorPluginWarning" in found.stderr) is breaks


def test_auto_takes_it_where_it_is_best() -> None:
    least_squares(rank=-1)
    _, table = fit_translator(*anchors(), method="auto")
    assert table[0].name == "least-squares"


def test_a_file_of_a_method_that_is_not_registered_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    least_squares(rank=3)
    save_translator(fit_translator(*anchors(), method="least-squares")[0], tmp_path / "t")
    left = {name: kind for name, kind in base.REGISTER.items() if name != "least-squares"}
    monkeypatch.setattr(base, "REGISTER", left)
    with pytest.raises(MismatchError):
        load_translator(tmp_path / "t")
    unknown: dict[str, Any] = {"method": "least-squares"}
    with pytest.raises(UsageError):
        FitOptions.checked(unknown)
