"""The KubeRay manifest: its command is one that the real command line takes."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import yaml
from test_schedules import cron_job, taken

from vecmigrate.jobs import load_job
from vecmigrate.migration.engines import EngineName

ROOT = Path(__file__).parents[1]


def ray_job() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "kuberay-job.yaml").read_text())
    return loaded


def pods(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def test_the_command_line_takes_the_entry_point() -> None:
    program, *arguments = shlex.split(ray_job()["spec"]["entrypoint"])
    assert program == "vecmigrate"
    taken(arguments)


def test_image_job_and_secret_are_those_of_the_cron_job() -> None:
    cron = cron_job()["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    [alone] = cron["containers"]
    job = ray_job()
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert shlex.split(job["spec"]["entrypoint"]) == alone["command"]
    assert len(pods(job["spec"]["rayClusterSpec"])) == 2
    for pod in pods(job["spec"]["rayClusterSpec"]):
        [container] = pod["containers"]
        for same in ("image", "envFrom", "volumeMounts"):
            assert container[same] == alone[same]
        assert pod["volumes"] == cron["volumes"]


def test_the_cluster_s_ray_is_the_one_that_is_locked() -> None:
    wanted = ray_job()["spec"]["rayClusterSpec"]["rayVersion"]
    assert f"ray=={wanted}" in (ROOT / "requirements.lock").read_text().splitlines()


def test_a_job_s_file_names_the_engine(tmp_path: Path) -> None:
    text = (ROOT / "examples" / "vecmigrate.toml").read_text()
    path = tmp_path / "vecmigrate.toml"
    path.write_text(text + '\n[migrate]\nengine = "ray"\nworkers = 3\nray_address = "auto"\n')
    migrating = load_job(path).migrate
    assert migrating.engine is EngineName.RAY
    assert (migrating.workers, migrating.ray_address) == (3, "auto")
