"""Applications write to a target from before the move's start; nothing of theirs is replaced."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import models
from support.live import NEW, Job, N, change_the_source, contents, make, payload
from support.qdrant.places import SERVED, Place, open_place
from typer.testing import CliRunner

from vecmigrate import migrate
from vecmigrate.cli import app
from vecmigrate.errors import (
    ExitCode,
    MismatchError,
    TargetExistsError,
    TerminatedError,
)
from vecmigrate.verification import VerifyOptions, verify


@pytest.fixture(params=SERVED)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with open_place(request.param, tmp_path) as opened:
        yield opened


class Application:
    """Writes to the new collection with the new encoder."""

    def __init__(self, place: Place, job: Job, name: str) -> None:
        self._place, self._job, self.name = place, job, name

    def make(self, dimension: int = NEW) -> None:
        with self._place.client() as client:
            client.create_collection(
                self.name,
                models.VectorParams(size=dimension, distance=models.Distance.COSINE),
                metadata={"owner": "search"},
            )

    def write(self, *ids: int) -> None:
        with self._place.client() as client:
            client.upsert(
                self.name,
                [
                    models.PointStruct(
                        id=i, vector=self._job.new[i].tolist(), payload=payload(i, app=True)
                    )
                    for i in ids
                ],
            )

    def delete(self, *ids: int) -> None:
        with self._place.client() as client:
            client.delete(self.name, list(ids))


def shared(place: Place, tmp_path: Path) -> tuple[Job, Application]:
    job, name = make(tmp_path), place.name()
    job = replace(job, target=place.uri(name))
    return job, Application(place, job, name)


def native(found: dict[Any, Any], job: Job, *ids: int) -> None:
    for i in ids:
        assert found[i][1] == payload(i, app=True)
        np.testing.assert_allclose(found[i][0], job.new[i], atol=1e-6)


def test_nothing_of_an_application_s_is_replaced(place: Place, tmp_path: Path) -> None:
    job, application = shared(place, tmp_path)
    application.make()
    application.write(5, 6, 550)
    read = 0

    def progress(count: int) -> None:
        """Write and delete while the points are moved."""
        nonlocal read
        read += count
        if read == 100:
            application.write(20, 200, 551)
            # Made by the move, and deleted at both sides by now.
            application.delete(30)

    done = migrate(
        job.source, job.target, job.translator, state=job.state, shared_target=True,
        batch_size=50, progress=progress,
    )  # fmt: skip
    assert (done.written, done.native, done.in_step) == (N, 3, False)
    found = contents(job.target)
    native(found, job, 5, 6, 550, 20, 200, 551)
    assert 30 not in found
    assert len(found) == N + 2 - 1
    with place.client() as client:
        assert client.get_collection(application.name).config.metadata["owner"] == "search"
    change_the_source(job)
    # Of ten changes one is of a point of theirs: 20.
    assert job.run().wrote == 9
    found = contents(job.target)
    # 30 vanished at the source, too.
    native(found, job, 5, 6, 550, 20, 200, 551)
    assert found[21][1]["more"] == {"nested": [1, None]}
    checked = verify(
        job.source, job.target, job.translator, VerifyOptions(full=True), state=job.state
    )
    assert checked.passed, checked.failures
    [figures] = [check.figures for check in checked.checks if check.name == "native"]
    assert figures == {"native": 6, "deleted": 0}


def test_a_stopped_move_goes_on_and_knows_what_it_wrote(place: Place, tmp_path: Path) -> None:
    job, application = shared(place, tmp_path)
    application.make()
    application.write(5)
    asked: dict[str, Any] = {"state": job.state, "shared_target": True, "batch_size": 50}
    stops = iter([False, False, True])
    with pytest.raises(TerminatedError):
        migrate(
            job.source, job.target, job.translator, stop=lambda: next(stops, True),
            checkpoint_seconds=1e9, **asked,
        )  # fmt: skip
    application.write(6, 250)
    done = migrate(job.source, job.target, job.translator, **asked)
    assert done.written == N
    native(contents(job.target), job, 5, 6, 250)
    assert job.run().wrote == 0
    # Begun anew by the same means, it finds its own points again.
    with pytest.raises(TargetExistsError):
        migrate(job.source, job.target, job.translator, **(asked | {"state": tmp_path / "s.db"}))


def test_a_collection_is_made_if_there_is_none(place: Place, tmp_path: Path) -> None:
    job, _ = shared(place, tmp_path)
    done = migrate(job.source, job.target, job.translator, state=job.state, shared_target=True)
    assert (done.written, done.native) == (N, 0)
    assert job.run().wrote == 0
    checked = verify(job.source, job.target, job.translator, VerifyOptions(full=True))
    assert checked.passed, checked.failures


def test_a_collection_that_does_not_fit_is_refused(place: Place, tmp_path: Path) -> None:
    job, application = shared(place, tmp_path)
    application.make(NEW + 1)
    with pytest.raises(MismatchError):
        migrate(job.source, job.target, job.translator, shared_target=True)
    with place.client() as client:
        assert client.get_collection(application.name).config.metadata == {"owner": "search"}


def test_giving_up_leaves_an_application_s_points(place: Place, tmp_path: Path) -> None:
    job, application = shared(place, tmp_path)
    application.make()
    application.write(5, 550)
    with place.client() as client:
        # What the move cannot read ends it for good.
        client.set_payload(application.name, {"app": True}, points=[550])
    index = tmp_path / "new.npy"
    assert index.exists()
    asked = ["migrate", job.source, job.target, "--translator", str(job.translator)]
    done = CliRunner().invoke(app, [*asked, "--shared-target", "--keep-anchors", "none.parquet"])
    assert done.exit_code == ExitCode.BAD_INPUT
    native(contents(job.target), job, 5, 550)


def test_files_are_not_shared(tmp_path: Path) -> None:
    job = make(tmp_path)
    target = f"faiss:{tmp_path}/shared.faiss"
    with pytest.raises(MismatchError):
        migrate(job.source, target, job.translator, state=job.state, shared_target=True)
    assert not (tmp_path / "shared.faiss").exists()
