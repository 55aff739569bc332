"""The files under docker/: linted, valid by their schemas, and true to what the code has."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[1]
DOCKER = PROJECT / "docker"
BIN = Path(sys.executable).parent


def load(name: str) -> Any:
    return yaml.safe_load((DOCKER / name).read_text())


def lint(tool: str, *arguments: object) -> None:
    found = shutil.which(tool, path=BIN) or shutil.which(tool)
    if found is None:
        pytest.skip(f"{tool} is not installed: it comes with rib-orchestrator[dev]")
    done = subprocess.run([found, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_scripts_pass_shellcheck() -> None:
    scripts = sorted(DOCKER.glob("*.sh"))
    assert {"start-head.sh", "start-worker.sh", "slurm.sh", "health.sh"} <= {
        s.name for s in scripts
    }
    assert all(script.stat().st_mode & 0o111 for script in scripts)
    lint("shellcheck", *scripts)


def test_the_dockerfile_passes_hadolint() -> None:
    lint("hadolint", DOCKER / "Dockerfile")


def test_the_compose_file_fits_its_schema() -> None:
    lint("check-jsonschema", "--builtin-schema", "vendor.compose-spec", DOCKER / "compose.yaml")


def test_the_ray_up_file_fits_ray_s_schema() -> None:
    import json

    import ray

    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(load("ray-up.yaml"), schema)


def test_the_image_is_pinned_and_runs_as_nobody_special() -> None:
    text = (DOCKER / "Dockerfile").read_text()
    bases = [line.split()[1] for line in text.splitlines() if line.startswith("FROM ")]
    assert {"python:${PYTHON}-slim-bookworm", "packages-${VARIANT}"} == set(bases)
    assert "ARG PYTHON=3.11." in text
    users = [line for line in text.splitlines() if line.startswith("USER ")]
    assert users == ["USER $RIB_UID"]
    assert "HEALTHCHECK" in text
    for line in text.splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (PROJECT / source).exists(), source


@pytest.mark.parametrize("name", ["head", "worker", "gpu-worker"])
def test_containers_of_the_compose_file_have_no_rights_to_spare(name: str) -> None:
    service = load("compose.yaml")["services"][name]
    assert service["cap_drop"] == ["ALL"]
    assert "ports" not in service
    assert service["environment"]["RIB_HEAD"] == "head:6379"
    assert (DOCKER / service["entrypoint"][0]).is_file()


def ray_specs() -> dict[str, Any]:
    job = load("rayjob.yaml")["spec"]
    return {"raycluster": load("raycluster.yaml")["spec"], "rayjob": job["rayClusterSpec"]}


@pytest.mark.parametrize("name", ["raycluster", "rayjob"])
def test_clusters_of_kuberay_ask_for_a_token_and_run_as_nobody_special(name: str) -> None:
    spec = ray_specs()[name]
    assert spec["authOptions"] == {"mode": "token"}
    pinned = (PROJECT / "requirements.lock").read_text()
    assert f"ray=={spec['rayVersion']}\n" in pinned
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    for group in groups:
        pod = group["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        (container,) = pod["containers"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert {"name": "RIB_DATA", "value": "/data"} in container["env"]
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_the_dashboard_of_a_cluster_that_stays_listens_in_its_pod_alone() -> None:
    parameters = ray_specs()["raycluster"]["headGroupSpec"]["rayStartParams"]
    assert parameters["dashboard-host"] == "127.0.0.1"


def test_the_job_runs_a_grid_that_the_image_has() -> None:
    words = load("rayjob.yaml")["spec"]["entrypoint"].split()
    assert words[:2] == ["rib", "run"]
    assert (PROJECT / words[2].removeprefix("/opt/rib/")).is_file()


def test_every_file_has_a_section_in_the_readme() -> None:
    text = (DOCKER / "README.md").read_text()
    headings = " ".join(line for line in text.splitlines() if line.startswith("## "))
    for path in DOCKER.glob("*.yaml"):
        assert path.name in headings, path.name
    assert "slurm.sh" in headings
