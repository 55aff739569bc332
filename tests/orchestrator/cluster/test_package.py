"""What is sent to a cluster: a grid that means something there, and the code if asked for."""

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cluster.facts import code_digest
from orchestrator.cluster.package import entrypoint, job_id_of, pack, read_for_elsewhere
from workers.errors import UserError
from workers.provenance import version_of

GRID = """
name: sent
suite: digits-rib
data_root: {root}
{store}
models: [resnet_digits]
methods: [ft]
"""


def grid(folder: Path, root: str = "${RIB_DATA}/x", store: str = "store: s3://b/x") -> Path:
    path = folder / "mine.yaml"
    path.write_text(GRID.format(root=root, store=store))
    return path


@pytest.mark.parametrize(
    ("root", "store"),
    [("/data", "store: /stores/x"), ("~/data", "store: s3://b/x"), ("$D/x", "store: ${S}/x")],
)
def test_places_that_mean_something_elsewhere(tmp_path: Path, root: str, store: str) -> None:
    assert read_for_elsewhere(grid(tmp_path, root, store), None).name == "sent"


def test_paths_that_are_relative_to_this_machine_are_refused(tmp_path: Path) -> None:
    path = grid(tmp_path, "data", "store: runs/x")
    path.write_text(
        path.read_text()
        .replace("[resnet_digits]", "[{name: m, architecture: resnet18, weights: w.safetensors}]")
        .replace("suite: digits-rib", "suite: mine.yaml\nmethod_files: [own.py, /ours/own.py]")
    )
    with pytest.raises(UserError) as caught:
        read_for_elsewhere(path, None)
    said = [str(problem) for problem in caught.value.problems]
    assert [line.split(" is relative")[0].split(": ", 1)[1] for line in said] == [
        "data_root: 'data'",
        "models[0].weights: 'w.safetensors'",
        "suite: 'mine.yaml'",
        "method_files[0]: 'own.py'",
        "store: 'runs/x'",
    ]


def test_a_store_that_is_not_named_would_be_the_job_s_own_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'runs/sent' is relative"):
        read_for_elsewhere(grid(tmp_path, store=""), None)
    read_for_elsewhere(grid(tmp_path, store=""), "/stores/sent")
    with pytest.raises(UserError, match="--store: 'stores/sent' is relative"):
        read_for_elsewhere(grid(tmp_path, store=""), "stores/sent")


def test_mistakes_in_keys_are_found_before_anything_is_sent(tmp_path: Path) -> None:
    path = grid(tmp_path)
    path.write_text(path.read_text() + "modles: [x]\nseeds: [-1]\n")
    with pytest.raises(UserError) as caught:
        read_for_elsewhere(path, None)
    assert len(caught.value.problems) == 2


def test_the_grid_alone_is_sent(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    pack(grid(tmp_path), folder, with_code=False)
    assert [path.name for path in folder.iterdir()] == ["grid.yaml"]


def test_code_that_is_sent_is_what_runs_and_says_its_version(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    pack(grid(tmp_path), folder, with_code=True)
    assert not list(folder.rglob("__pycache__"))
    program = (
        "from orchestrator.cluster.facts import code_digest, version\nimport workers.cell\n"
        "print(workers.cell.__file__, code_digest(), version('rib-orchestrator'))"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=True, env={"PATH": ""}
    )
    file, digest, version = done.stdout.split()
    assert file == str(folder / "workers" / "cell.py")
    assert digest == code_digest()
    assert version == version_of("rib-orchestrator")


def test_the_command_of_a_job() -> None:
    options = ["--only", "method=ft,seed=0", "--canary"]
    assert entrypoint(options, with_code=False) == (
        "rib run grid.yaml --address auto --only method=ft,seed=0 --canary"
    )
    assert entrypoint(["--store", "/a b"], with_code=True) == (
        "python -m orchestrator run grid.yaml --address auto --store '/a b'"
    )


def test_ids_of_jobs_are_names() -> None:
    first, second = job_id_of("a grid/../x"), job_id_of("a grid/../x")
    assert first != second
    assert first.startswith("rib-a-grid----x-")
