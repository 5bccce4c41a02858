"""The files in ``deploy/``: accepted by their linters, and true about shake's commands and keys.

No container is built or started here.
"""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import yaml

from shake import __version__
from shake.cli.definition import root_parser
from shake.cli.main import COMMANDS
from shake.cli.supervisor import RUN
from shake.config import load
from shake.config.declared_keys import KEYS
from shake.nodes.choice import Ray, parse_nodes
from shake.status.routes import status_server
from tests.support.migration import ROOT
from tests.support.snapshots import task

DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
KUBERNETES = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text(encoding="utf-8")))
RAY_JOB = list(yaml.safe_load_all((DEPLOY / "ray-job.yaml").read_text(encoding="utf-8")))
RAY_CLUSTER = (DEPLOY / "ray-cluster.yaml").read_text(encoding="utf-8")
UNIT = (DEPLOY / "shake@.service").read_text(encoding="utf-8")
[PORT] = load(str(DEPLOY / "shake.conf"), {}, []).config.http_profile

ANALYZE = shutil.which("systemd-analyze") or ""

#: Exit statuses that no new start changes.
FINAL = [2, 3, 4]


@pytest.mark.parametrize(
    "command",
    [
        ("hadolint", "deploy/Dockerfile"),
        ("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "deploy/compose.yaml"),
        ("kubernetes-validate", "--strict", "deploy/kubernetes.yaml"),
    ],
    ids=lambda command: command[0],
)
def test_the_linter_finds_nothing(command: tuple[str, ...]) -> None:
    tool = Path(sys.executable).parent / command[0]
    answer = subprocess.run(
        [tool, *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer


def understood(words: list[str]) -> Namespace:
    """The options of a command line, of which ``shake`` is left out."""
    return root_parser(COMMANDS).parse_args(words)


def dockerfile_list(instruction: str) -> list[str]:
    found = re.findall(rf"(?m)^ *{instruction} (\[.*\])$", DOCKERFILE)
    words: list[str] = json.loads(found[-1])
    return words


def test_the_image_runs_a_command_that_exists_and_not_as_root() -> None:
    assert dockerfile_list("ENTRYPOINT") == ["shake"]
    assert understood(dockerfile_list("CMD")).act == RUN.act
    assert re.findall(r"(?m)^USER (\d+)$", DOCKERFILE) == ["10001"]
    assert f"EXPOSE {PORT}\n" in DOCKERFILE


@pytest.mark.parametrize(("state", "status"), [("running", 0), ("degraded", 0), ("failed", 1)])
def test_the_health_check_of_the_image_is_true(state: str, status: int) -> None:
    command = re.search(r"HEALTHCHECK .*\\\n +CMD (\[.*\])", DOCKERFILE)
    assert command
    with status_server(lambda: task(state=state), "127.0.0.1", 0, "token") as server:
        [_, option, code] = json.loads(command[1].replace(str(PORT), str(server.port)))
        answer = subprocess.run([sys.executable, option, code], capture_output=True, check=False)
    assert answer.returncode == status, answer


def test_the_image_is_built_of_files_that_exist() -> None:
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    kept = [line[1:] for line in lines if line.startswith("!")]
    assert {"setup.py", "setup.cfg", "pyproject.toml", "shake", "share"} <= set(kept)
    assert all((ROOT / one).exists() for one in kept)


def test_the_compose_file_has_a_configuration_that_loads() -> None:
    service = COMPOSE["services"]["shake"]
    given = service["environment"]
    token = re.fullmatch(r"\$\{SHAKE_HTTP_TOKEN:\?.*\}", given["SHAKE_HTTP_TOKEN"])
    assert token
    loaded = load(None, {**given, "SHAKE_HTTP_TOKEN": "token"}, [])
    assert loaded.notices == ()
    assert loaded.config.source_endpoint_url == "http://dynamodb:8000"
    assert loaded.config.target_address.startswith("mongodb://mongo:27017/")
    assert set(service["depends_on"]) == {"dynamodb", "mongo"}
    assert understood(service["command"]).act == RUN.act
    assert service["ports"] == [f"127.0.0.1:{PORT}:{PORT}"]


def kubernetes(kind: str) -> Any:
    [found] = [one for one in KUBERNETES if one["kind"] == kind]
    return found


def test_the_job_has_a_configuration_that_loads(tmp_path: Path) -> None:
    (tmp_path / "shake.conf").write_text(kubernetes("ConfigMap")["data"]["shake.conf"])
    secret = {"SHAKE_TARGET_ADDRESS": "mongodb://m/", "SHAKE_HTTP_TOKEN": "token"}
    loaded = load(str(tmp_path / "shake.conf"), secret, [])
    assert loaded.notices == ()
    assert loaded.config.http_bind == "0.0.0.0"
    text = (DEPLOY / "kubernetes.yaml").read_text(encoding="utf-8")
    assert all(f"--from-literal={variable}=" in text for variable in secret)


def test_the_job_runs_to_its_end_and_is_tried_again_only_where_that_helps() -> None:
    job = kubernetes("Job")["spec"]
    pod = job["template"]["spec"]
    [container] = pod["containers"]
    options = understood(container["args"])
    assert options.act == RUN.act
    assert options.until_consistent  # a stop is status 1 then: another pod continues
    assert container["ports"][0]["containerPort"] == PORT
    for probe in ("startupProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["path"] == "/healthz"
    rule = job["podFailurePolicy"]["rules"][0]
    assert rule["action"] == "FailJob"
    assert rule["onExitCodes"]["values"] == FINAL
    assert pod["restartPolicy"] == "Never"
    assert pod["terminationGracePeriodSeconds"] > 10
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"]["readOnlyRootFilesystem"]


def test_the_unit_stops_shake_in_order_and_starts_it_again_only_where_that_helps() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(UNIT)
    service = unit["Service"]
    program, *words = shlex.split(service["ExecStart"])
    assert program.endswith("/bin/shake")
    assert understood(words).act == RUN.act
    assert service["KillMode"] == "mixed"
    assert service["KillSignal"] == "SIGTERM"
    assert int(service["TimeoutStopSec"]) > 10
    assert service["Restart"] == "on-failure"
    assert service["RestartPreventExitStatus"].split() == [str(one) for one in FINAL]
    assert set(FINAL) < set(RUN.statuses)


def test_a_command_beside_the_unit_has_its_user_secrets_and_folder(tmp_path: Path) -> None:
    """What the script gives to systemd-run, which needs a running systemd."""
    (tmp_path / "systemd-run").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "systemd-run").chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    script = [str(DEPLOY / "shake-task"), "shop", "control", "budget", "orders=500"]
    said = subprocess.run(script, env=environment, capture_output=True, text=True, check=True)
    given = said.stdout.splitlines()
    program = given.index("/opt/shake/bin/shake")
    assert f"\nExecStart={given[program]} run --conf /etc/shake/%i.conf\n" in UNIT
    properties = [one.removeprefix("--property=") for one in given if "--property=" in one]
    for line in properties:
        in_unit = line.replace("/shop.", "/%i.").replace("/var/lib/", "%S/")
        assert f"\n{in_unit}\n" in UNIT
    options = understood(given[program + 1 :])
    assert (options.conf, options.given) == ("/etc/shake/shop.conf", ["orders=500"])
    short = subprocess.run(script[:2], env=environment, capture_output=True, check=False)
    assert short.returncode == 2


@pytest.mark.skipif(not ANALYZE, reason="no systemd-analyze: the unit is only parsed")
def test_systemd_accepts_the_unit_and_finds_it_safe(tmp_path: Path) -> None:
    (tmp_path / "shake").symlink_to(Path(sys.executable).parent / "shake")
    path = tmp_path / "shake@shop.service"
    path.write_text(UNIT.replace("/opt/shake/bin/shake", str(tmp_path / "shake")))
    verified = subprocess.run(
        [ANALYZE, "verify", "--man=no", path], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    safe = [ANALYZE, "security", "--offline=true", "--threshold=30", str(path)]
    assert subprocess.run(safe, capture_output=True, check=False).returncode == 0


def test_the_guide_runs_an_image_of_this_version_with_a_command_that_exists() -> None:
    guide = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    images = re.findall(r"shake:(\d\S+)(?: (\S.*\S))?", guide)
    [container] = kubernetes("Job")["spec"]["template"]["spec"]["containers"]
    assert {version for version, _ in images} == {__version__}
    assert container["image"] == f"shake:{__version__}"
    commands = [shlex.split(words) for _, words in images if words.startswith(("run", "plan"))]
    assert len(commands) == 1
    assert all(understood(words) for words in commands)


def test_each_variable_and_exit_status_that_a_file_names_exists() -> None:
    known = {key.variable for key in KEYS} | {"SHAKE_CODEC", "SHAKE_KEY"}
    for path in DEPLOY.iterdir():
        names = re.findall(r"\bSHAKE_[A-Z_]+\b", path.read_text(encoding="utf-8"))
        assert set(names) <= known, path


# -- Ray -----------------------------------------------------------------------------------------


def ray_pods() -> dict[str, Any]:
    """The pods of the RayJob, the head's first, by what Ray calls their group."""
    cluster = RAY_JOB[1]["spec"]["rayClusterSpec"]
    groups = {one["groupName"]: one for one in cluster["workerGroupSpecs"]}
    return {"head": cluster["headGroupSpec"]["template"]} | {
        name: group["template"] for name, group in groups.items()
    }


def test_the_pods_of_the_ray_job_are_right(tmp_path: Path) -> None:
    """There is no schema of RayJob at hand, but its pods are those of Kubernetes."""
    files = []
    for name, template in ray_pods().items():
        metadata = {**template["metadata"], "name": name}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        files.append(tmp_path / f"{name}.yaml")
        files[-1].write_text(yaml.safe_dump(pod))
    tool = Path(sys.executable).parent / "kubernetes-validate"
    answer = subprocess.run([tool, "--strict", *files], capture_output=True, check=False)
    assert answer.returncode == 0, answer


def test_the_ray_job_runs_a_task_whose_nodes_find_their_secret(tmp_path: Path) -> None:
    [configuration, job] = RAY_JOB
    (tmp_path / "shake.conf").write_text(configuration["data"]["shake.conf"])
    secret = {"SHAKE_TARGET_ADDRESS": "mongodb://m/", "SHAKE_HTTP_TOKEN": "token"}
    loaded = load(str(tmp_path / "shake.conf"), secret, [])
    assert loaded.notices == ()
    program, *words = shlex.split(job["spec"]["entrypoint"])
    options = understood(words)
    assert (program, options.act, options.until_consistent) == ("shake", RUN.act, True)
    choice = parse_nodes(options.nodes, options.workers)
    assert isinstance(choice, Ray)
    assert choice.address
    assert loaded.config.nodes_secret_file
    folder, name = os.path.split(loaded.config.nodes_secret_file)
    for template in ray_pods().values():
        [container] = template["spec"]["containers"]
        [mount] = [one for one in container["volumeMounts"] if one["mountPath"] == folder]
        [volume] = [one for one in template["spec"]["volumes"] if one["name"] == mount["name"]]
        assert volume["secret"]["defaultMode"] & 0o027 == 0
        assert container["image"] == f"shake-ray:{__version__}"
    text = (DEPLOY / "ray-job.yaml").read_text(encoding="utf-8")
    assert f"--from-file={name}" in text
    assert all(f"--from-literal={variable}=" in text for variable in secret)
    ports = [one["containerPort"] for one in ray_pods()["head"]["spec"]["containers"][0]["ports"]]
    assert {choice.address.port, PORT} <= set(ports)


def test_nothing_secret_is_in_what_ray_stores_of_a_job() -> None:
    """Ray shows entrypoint and runtime environment to anyone who reaches its dashboard."""
    spec = RAY_JOB[1]["spec"]
    assert "runtimeEnvYAML" not in spec
    assert "--set" not in spec["entrypoint"]


def test_the_ray_cluster_has_farms_and_the_secret_of_its_run() -> None:
    cluster = yaml.safe_load(RAY_CLUSTER)
    types = cluster["available_node_types"]
    assert types[cluster["head_node_type"]]["resources"]["CPU"] == 0
    assert cluster["max_workers"] == sum(one.get("min_workers", 0) for one in types.values())
    command = re.search(r"'shake (run .*)'", RAY_CLUSTER)
    assert command
    options = understood(shlex.split(command[1]))
    assert isinstance(parse_nodes(options.nodes, options.workers), Ray)
    [path] = cluster["file_mounts"]
    assert f"nodes.secret_file = {path}" in RAY_CLUSTER


def test_the_files_for_ray_name_one_version_of_ray_and_this_one_of_shake() -> None:
    texts = RAY_CLUSTER + (DEPLOY / "ray-job.yaml").read_text(encoding="utf-8")
    named = re.findall(r"(?:rayproject/ray:|rayVersion: |ray\[default\]==)([\d.]+\d)", texts)
    assert (len(named), len(set(named))) == (3, 1)
    assert set(re.findall(r"shake-dynamodb\[ray\]==([\d.]+\d)", texts)) == {__version__}
