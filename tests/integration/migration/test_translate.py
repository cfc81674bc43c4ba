"""Batches translated several at once, and on a device of torch."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from joblib import cpu_count
from typer.testing import CliRunner

from vecmigrate import KernelRidge, Procrustes, Ridge, Translator, migrate, save_translator
from vecmigrate.cli import app
from vecmigrate.connector import VectorBatch, id_array, map_in_parallel
from vecmigrate.errors import MissingDependencyError, UsageError
from vecmigrate.migration.engines import LocalEngine
from vecmigrate.migration.translate import StageSeconds, Translation, convert
from vecmigrate.runtime.torch_device import find_gpu
from vecmigrate.translators.device import open_device, transform_on

OLD, NEW = 12, 20
TWO = min(2, cpu_count())


def anchors(count: int = 300) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    old = rng.standard_normal((count, OLD)).astype(np.float32)
    old /= np.linalg.norm(old, axis=1, keepdims=True)
    new = np.tanh(2 * old @ rng.standard_normal((OLD, NEW))).astype(np.float32)
    return old, new / np.linalg.norm(new, axis=1, keepdims=True)


def test_the_outcome_is_in_order_whatever_ends_first() -> None:
    rng = np.random.default_rng(0)
    waits = rng.uniform(0, 0.01, 60).tolist()

    def slow(item: int) -> int:
        time.sleep(waits[item])
        return -item

    assert list(map_in_parallel(slow, range(60), 4, name="test")) == [-i for i in range(60)]


def test_several_are_under_way_at_once_and_no_more() -> None:
    together = threading.Barrier(3, timeout=20)
    asked = 0

    def items() -> Iterator[int]:
        nonlocal asked
        for item in range(30):
            asked += 1
            yield item

    stream = map_in_parallel(lambda item: together.wait() and item, items(), 3, name="test")
    next(stream)
    assert asked <= 4
    assert len(list(stream)) == 29


def of_items(bad: bool) -> Iterator[int]:
    yield from range(7)
    if bad:
        raise OSError("the disk is gone")
    yield -1


def check(item: int) -> int:
    if item < 0:
        raise OSError("the disk is gone")
    return item


@pytest.mark.parametrize("bad", [True, False], ids=["of the items", "of the work"])
def test_an_error_comes_after_what_was_done_before_it(bad: bool) -> None:
    stream = map_in_parallel(check, of_items(bad), 3, name="test")
    assert [next(stream) for _ in range(7)] == list(range(7))
    with pytest.raises(OSError, match="disk is gone"):
        next(stream)


def test_its_threads_end_where_the_consumer_stops() -> None:
    before = threading.active_count()
    stream = map_in_parallel(check, iter(range(10**9)), 3, name="test")
    next(stream)
    assert threading.active_count() > before
    stream.close()
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"OPENBLAS_NUM_THREADS": "2"}, f"{TWO} 1 {TWO}"),
        ({"OPENBLAS_NUM_THREADS": "2", "LOKY_MAX_CPU_COUNT": "1"}, "1 1 1"),
    ],
    ids=["as BLAS is told", "a share of the processors"],
)
def test_blas_has_one_thread_for_as_long_as_asked(said: dict[str, str], expected: str) -> None:
    code = (
        "from vecmigrate.runtime.threads import *; import numpy\n"
        "before = blas_threads()\n"
        "with one_thread_a_product(): within = blas_threads()\n"
        "print(before, within, blas_threads())"
    )
    command = [sys.executable, "-c", code]
    environment = {**os.environ, **said}
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == expected


def test_translating_at_once_counts_once() -> None:
    stages = StageSeconds()
    together = threading.Barrier(2, timeout=20)

    def slow(rows: np.ndarray) -> np.ndarray:
        together.wait()
        time.sleep(0.2)
        return rows

    batches = [VectorBatch(id_array([i]), np.ones((1, OLD), np.float32)) for i in range(2)]
    translator = Procrustes().fit(*anchors())
    done = list(convert(batches, Translation(translator, None, slow), stages, threads=2))
    assert [batch.ids.tolist() for batch in done] == [[0], [1]]
    assert 0.2 <= stages.translating < 0.39


def written(folder: Path, name: str, **how: object) -> np.ndarray:
    migrate(
        f"npy:{folder}/old.npy?metric=cosine",
        f"npy:{folder}/{name}.npy",
        Ridge().fit(*anchors()),
        batch_size=64,
        engine=LocalEngine(**how),  # type: ignore[arg-type]
    )
    return np.load(folder / f"{name}.npy")


def test_threads_and_devices_change_nothing_in_a_target(tmp_path: Path) -> None:
    rows = np.random.default_rng(1).standard_normal((1000, OLD)).astype(np.float32)
    np.save(tmp_path / "old.npy", rows)
    expected = Ridge().fit(*anchors()).transform(rows)
    for name, how in {
        "one": {"workers": 1, "device": "cpu"},
        "five": {"workers": 5, "device": "cpu"},
        "torch": {"workers": 2, "device": "cpu:0"},
    }.items():
        np.testing.assert_allclose(written(tmp_path, name, **how), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "translator",
    [
        Procrustes(),
        Ridge(normalize=False),
        KernelRidge(),
        KernelRidge(landmarks=40),
        KernelRidge(text_dim=4),
    ],
    ids=["procrustes", "ridge", "kernel ridge", "nystrom", "with texts"],
)
def test_torch_translates_as_numpy_does(
    translator: Translator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vecmigrate.translators.kernel_ridge.EXACT_ANCHORS", 350)
    old, new = anchors(400 if "landmarks=40" in repr(vars(translator)) else 300)
    translator.fit(7 * old, new)
    # More rows than a block, and one that is an anchor.
    rows = np.random.default_rng(2).standard_normal((9000, OLD)).astype(np.float32)
    rows *= 7 / np.linalg.norm(rows, axis=1, keepdims=True)
    rows[1] = 7 * old[3]
    rows.setflags(write=False)
    found = transform_on(translator, "cpu")(rows)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_allclose(found, translator.transform(rows), rtol=0, atol=1e-5)


def test_torch_leaves_a_translation_of_no_length_as_it_is() -> None:
    translator = Procrustes(normalize=True).fit(*anchors())
    translator.offset_ = np.zeros_like(translator.offset_)
    assert not transform_on(translator, "cpu")(np.zeros((2, OLD), np.float32)).any()


class Halves(Procrustes):
    """A translator of someone's own."""

    def transform(self, X: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
        return np.multiply(X[:, :6], 0.5, out=out)


@pytest.mark.parametrize("device", [None, "cpu"])
def test_a_method_of_its_own_keeps_its_own_means(device: str | None) -> None:
    rows = np.ones((3, OLD), np.float32)
    assert (transform_on(Halves().fit(*anchors()), device)(rows) == 0.5).all()


def test_without_a_driver_torch_is_not_loaded(tmp_path: Path) -> None:
    if find_gpu() is not None:
        pytest.skip("this machine has a GPU")
    np.save(tmp_path / "old.npy", np.ones((50, OLD), np.float32))
    save_translator(Procrustes().fit(*anchors()), tmp_path / "t")
    code = (
        "import sys; from vecmigrate import migrate\n"
        "migrate('npy:old.npy?metric=cosine', 'npy:new.npy', 't')\n"
        "print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"


def test_a_driver_without_a_gpu_leaves_numpy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr("vecmigrate.runtime.torch_device._DRIVERS", (str(tmp_path),))
    assert open_device(None) == ("cuda" if torch.cuda.is_available() else None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert open_device(None) == "cuda"


def test_a_device_that_is_not_there_is_named_before_a_target_is_made(tmp_path: Path) -> None:
    np.save(tmp_path / "old.npy", np.ones((50, OLD), np.float32))
    save_translator(Procrustes().fit(*anchors()), tmp_path / "t")
    ended = CliRunner().invoke(
        app,
        ["migrate", f"npy:{tmp_path}/old.npy?metric=cosine", f"npy:{tmp_path}/new.npy",
         "--translator", str(tmp_path / "t"), "--device", "cuda:77"],
    )  # fmt: skip
    assert ended.exit_code == 2
    assert "torch has no device 'cuda:77'" in ended.stderr
    assert not list(tmp_path.glob("*new*"))


def test_a_device_needs_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependencyError, match="needs torch"):
        open_device("cuda")


def test_a_full_device_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def fails(*_: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    transform = transform_on(Ridge().fit(*anchors()), "cpu")
    monkeypatch.setattr(torch, "split", fails)
    with pytest.raises(UsageError, match="'cpu' has no memory left: CUDA out of memory"):
        transform(np.ones((3, OLD), np.float32))
