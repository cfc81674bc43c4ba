"""Schedules and the KubeRay manifest: each command is one that the real command line takes."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.command_line import taken

from vecmigrate.errors import ExitCode
from vecmigrate.jobs import load_job
from vecmigrate.migration.engines import EngineName
from vecmigrate.sync.watch import Health

EXAMPLES = Path(__file__).parents[2] / "examples"
SCHEDULES = EXAMPLES / "schedules"


def read(name: str) -> str:
    return (SCHEDULES / name).read_text()


def from_crontab() -> Iterator[str]:
    for line in read("crontab").splitlines():
        if line and not line.startswith("#") and not re.match(r"\w+=", line):
            *times, command = line.split(maxsplit=5)
            for field, most in zip(times, (59, 23, 31, 12, 7), strict=True):
                assert field == "*" or 0 <= int(field) <= most
            yield command.partition("&& ")[2]


def from_systemd() -> Iterator[str]:
    yield from re.findall(r"^ExecStart=(.*)$", read("vecmigrate.service"), re.MULTILINE)


def from_kubernetes() -> Iterator[str]:
    pod = cron_job()["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    for container in pod["containers"]:
        yield shlex.join(container["command"])


def from_airflow() -> Iterator[str]:
    constants: dict[str, Any] = {}
    for node in ast.walk(ast.parse(read("airflow_dag.py"))):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            constants[ast.unparse(node.targets[0])] = node.value.value
        if isinstance(node, ast.keyword) and node.arg == "bash_command":
            assert isinstance(node.value, ast.JoinedStr)
            yield "".join(
                constants[ast.unparse(part.value)]
                if isinstance(part, ast.FormattedValue)
                else ast.literal_eval(part)
                for part in node.value.values
            )


def from_github() -> Iterator[str]:
    for job in yaml.safe_load(read("github-actions.yml"))["jobs"].values():
        for step in job["steps"]:
            if "vecmigrate " in step.get("run", "").partition("#")[0]:
                yield step["run"]


def from_deployment() -> Iterator[str]:
    for container in deployed():
        yield shlex.join(container["command"])


def deployed() -> list[dict[str, Any]]:
    pod = yaml.safe_load(read("keep-in-step.yaml"))["spec"]["template"]["spec"]
    found: list[dict[str, Any]] = pod["containers"]
    return found


def cron_job() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(read("cronjob.yaml"))
    return loaded


@pytest.mark.parametrize(
    ("commands", "count"),
    [
        (from_crontab, 1),
        (from_systemd, 1),
        (from_kubernetes, 1),
        (from_airflow, 2),
        (from_github, 3),
        (from_deployment, 1),
    ],
)
def test_the_command_line_takes_each_command(commands: Any, count: int) -> None:
    found = list(commands())
    assert len(found) == count
    for command in found:
        program, *arguments = shlex.split(command)
        assert Path(program).name == "vecmigrate"
        taken(arguments)


def test_a_command_that_is_not_taken_would_be_told() -> None:
    with pytest.raises(Exception, match="No such option"):
        taken(["run", "job.toml", "--cut-over"])


def test_kubernetes_gives_up_where_another_try_would_end_the_same() -> None:
    spec = cron_job()["spec"]
    [rule] = spec["jobTemplate"]["spec"]["podFailurePolicy"]["rules"]
    final = set(rule["onExitCodes"]["values"])
    again = {
        ExitCode.INTERNAL, ExitCode.UNREACHABLE, ExitCode.WRITE_FAILED, ExitCode.LOCKED,
        ExitCode.INTERRUPTED, ExitCode.TERMINATED,
    }  # fmt: skip
    assert final <= {int(code) for code in ExitCode}
    assert not final & again
    assert {ExitCode.NO_GO, ExitCode.VERIFICATION, ExitCode.USAGE} <= final
    pod = spec["jobTemplate"]["spec"]["template"]["spec"]
    # A pod failure policy is taken with this alone.
    assert pod["restartPolicy"] == "Never"
    assert spec["concurrencyPolicy"] == "Forbid"
    [container] = pod["containers"]
    assert rule["onExitCodes"]["containerName"] == container["name"]
    assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}


def test_a_probe_asks_for_a_recent_success(tmp_path: Path) -> None:
    [container] = deployed()
    health = tmp_path / "health.json"
    asked = container["command"][container["command"].index("--health") + 1]
    for probe in ("startupProbe", "livenessProbe"):
        _, *command = container[probe]["exec"]["command"]
        script = [part.replace(asked, str(health)) for part in command]
        assert script != command
        for ago, healthy in ((5, True), (5000, False), (None, False)):
            at = None if ago is None else time.time() - ago
            health.write_text(Health(last_success_timestamp=at).model_dump_json())
            done = subprocess.run([sys.executable, *script], capture_output=True, check=False)
            assert (done.returncode == 0) is healthy


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not here")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    program = str(Path(sys.executable).with_name("vecmigrate"))
    service = read("vecmigrate.service").replace("/opt/vecmigrate/bin/vecmigrate", program)
    (tmp_path / "vecmigrate.service").write_text(service.replace("User=vecmigrate\n", ""))
    (tmp_path / "vecmigrate.timer").write_text(read("vecmigrate.timer"))
    found = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, tmp_path.iterdir())],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    complaints = [line for line in found.stderr.splitlines() if str(tmp_path) in line]
    assert found.returncode == 0, found.stderr
    assert complaints == []


def test_the_example_job_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    job = load_job(EXAMPLES / "vecmigrate.toml")
    assert job.gates == {"min-recall@10": 0.6}
    assert job.cutover is not None


def test_the_dag_is_one_that_airflow_reads(tmp_path: Path) -> None:
    pytest.importorskip("airflow", reason="Airflow is not installed here")
    from airflow.models import DagBag

    bag = DagBag(str(SCHEDULES), include_examples=False)
    assert bag.import_errors == {}
    assert [task.task_id for task in bag.dags["vecmigrate"].tasks] == ["run", "history"]


def ray_job() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(
        (EXAMPLES.parent / "deploy" / "kuberay-job.yaml").read_text()
    )
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
    assert f"ray=={wanted}" in (EXAMPLES.parent / "requirements.lock").read_text().splitlines()


def test_a_job_s_file_names_the_engine(tmp_path: Path) -> None:
    text = (EXAMPLES / "vecmigrate.toml").read_text()
    path = tmp_path / "vecmigrate.toml"
    of_ray = '[migrate]\nengine = "ray"\nworkers = 3\nray_address = "auto"\n'
    path.write_text(text.replace("[migrate]\n", of_ray))
    migrating = load_job(path).migrate
    assert migrating.engine is EngineName.RAY
    assert (migrating.workers, migrating.ray_address) == (3, "auto")
