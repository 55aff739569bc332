"""`rib models`: fetch once from a real server, then plan and run a grid with no network."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from huggingface_hub import constants

from tests.imagenet_archives import Archives
from tests.orchestrator.rib import rib
from tests.workers.models.hub_server import Hub, serving
from workers.models import pack_state, state_of
from workers.store import Store

VIT, RESNET = "test_vit.r160_in1k", "test_resnet.r160_in1k"


def published(architecture: str) -> bytes:
    torch.manual_seed(0)
    return pack_state(state_of(timm.create_model(architecture)))


def grid_of(folder: Path, *models: Any, **keys: Any) -> Path:
    value = {
        "name": "g",
        "suite": "imagenet-rib",
        "data_root": str(folder),
        "store": str(folder / "store"),
        "models": list(models),
        "methods": ["ft"],
        **keys,
    }
    path = folder / "grid.yaml"
    path.write_text(yaml.safe_dump(value))
    return path


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with two models, and an empty cache."""
    with serving() as running:
        template = running.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", running.address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        for name in (VIT, RESNET):
            data = published(name.partition(".")[0])
            running.repos[f"timm/{name}"] = {"model.safetensors": data}
        yield running


def read(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return rows


def test_each_model_is_fetched_once(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = grid_of(tmp_path, VIT, RESNET)
    assert rib("models", "list", grid, "--json") == 1
    printed = capsys.readouterr()
    assert [row["state"] for row in json.loads(printed.out)] == ["missing", "missing"]
    assert f"2 of 2 are not here; where there is a network: rib models fetch {grid}" in printed.err
    assert hub.asked == []
    assert rib("models", "fetch", grid, "--json") == 0
    rows = read(capsys)
    assert [row["state"] for row in rows] == ["fetched", "fetched"]
    for row, name in zip(rows, (VIT, RESNET), strict=True):
        data = hub.repos[f"timm/{name}"]["model.safetensors"]
        assert (row["model"], row["source"]) == (name, f"timm/{name}")
        assert Path(row["path"]).read_bytes() == data
        assert (row["size"], row["digest"]) == (
            len(data),
            f"sha256:{hashlib.sha256(data).hexdigest()}",
        )
    assert sum(asked.startswith("GET /timm/") for asked in hub.asked) == 2
    hub.asked.clear()
    assert rib("models", "fetch", grid, "--json") == 0
    assert [row["state"] for row in read(capsys)] == ["cached", "cached"]
    assert rib("models", "list", grid) == 0
    assert hub.asked == []
    table = capsys.readouterr().out
    for text in (VIT, RESNET, "cached", "model.safetensors", rows[0]["digest"][7:19]):
        assert text in table


def test_what_does_not_come_is_told_and_the_rest_comes(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del hub.repos[f"timm/{VIT}"]
    grid = grid_of(tmp_path, VIT, RESNET)
    assert rib("models", "fetch", grid) == 1
    printed = capsys.readouterr()
    assert f"rib: timm/{VIT}: {hub.address} has no such repository" in printed.err
    assert "fetched" in printed.out
    assert "failed" in printed.out


def test_a_hub_that_does_not_answer_is_asked_once(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.refuses = {f"timm/{name}": (503, "") for name in (VIT, RESNET)}
    assert rib("models", "fetch", grid_of(tmp_path, VIT, RESNET), "--json") == 1
    assert [row["state"] for row in read(capsys)] == ["failed", "failed"]
    assert len(hub.asked) == 1


def test_weights_files_are_listed_with_how_they_are_read(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = timm.create_model("test_resnet").state_dict()
    wrapped = {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}
    torch.save(wrapped, tmp_path / "good.pth")
    torch.save({"a": state, "b": state}, tmp_path / "bad.pth")
    entries = [
        {"name": name, "architecture": "test_resnet", "weights": str(tmp_path / f"{name}.pth")}
        for name in ("good", "bad")
    ]
    assert rib("models", "fetch", grid_of(tmp_path, *entries), "--json") == 1
    good, bad = read(capsys)
    assert (good["state"], good["source"]) == ("present", "file")
    assert good["note"] == "the entry 'state_dict' is read, the prefix 'module.' is taken off"
    assert bad["state"] == "unfit"
    assert "holds 2 state dicts: a, b" in bad["note"]
    assert hub.asked == []


def test_a_run_without_the_weights_starts_nothing_and_names_the_command(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = grid_of(tmp_path, VIT, downstream=["imagenet-a"])
    assert rib("run", grid, "--executor", "inline") == 2
    told = capsys.readouterr().err
    assert f"models entry '{VIT}': its weights timm/{VIT} are not in {tmp_path}/hub" in told
    assert "rib models fetch GRID" in told
    assert not (tmp_path / "store").exists()
    assert hub.asked == []


def test_a_run_with_no_network_records_which_weights_it_loaded(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Archives(tmp_path).a()
    keys = {
        "downstream": ["imagenet-a"],
        "evaluate": ["imagenet-a"],
        "accept_images": {"imagenet-a": 200},
    }
    small = {"transform": {"input_size": [3, 32, 32]}}
    own = tmp_path / "own.pth"
    torch.save({"model": timm.create_model("test_resnet").state_dict()}, own)
    mine = {"name": "mine", "architecture": "test_resnet", "weights": str(own)}
    grid = grid_of(tmp_path, {"name": RESNET, **small}, {**mine, **small}, **keys)
    assert rib("models", "fetch", grid) == 0
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.asked.clear()
    rib("run", grid, "--executor", "inline", "--only", "method=pretrained")
    assert hub.asked == []
    rows = Store(str(tmp_path / "store")).scan("accuracy").table.to_pylist()
    published = hub.repos[f"timm/{RESNET}"]["model.safetensors"]
    assert {(row["model"], row["weights_digest"]) for row in rows} == {
        (RESNET, f"sha256:{hashlib.sha256(published).hexdigest()}"),
        ("mine", f"sha256:{hashlib.sha256(own.read_bytes()).hexdigest()}"),
    }


@pytest.mark.slow
def test_the_environment_variables_of_the_hub_are_heeded(tmp_path: Path) -> None:
    """HF_ENDPOINT and HF_HOME for fetching, HF_HUB_OFFLINE afterwards, as a cluster has them."""
    grid = grid_of(tmp_path, RESNET)
    environment = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": ""}

    def command(name: str, **changes: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "orchestrator", "models", name, str(grid)],
            env={**environment, **changes},
            capture_output=True,
            text=True,
            timeout=120,
        )

    with serving() as hub:
        hub.repos[f"timm/{RESNET}"] = {"model.safetensors": published("test_resnet")}
        refused = command("fetch", HF_ENDPOINT=hub.address, HF_HUB_OFFLINE="1")
        assert (refused.returncode, hub.asked) == (1, [])
        assert "HF_HUB_OFFLINE is set" in refused.stderr
        fetched = command("fetch", HF_ENDPOINT=hub.address)
        assert (fetched.returncode, "Traceback" in fetched.stderr) == (0, False)
        hub.asked.clear()
        listed = command("list", HF_ENDPOINT=hub.address, HF_HUB_OFFLINE="1")
        assert (listed.returncode, hub.asked) == (0, [])
    assert "cached" in listed.stdout
    assert list((tmp_path / "hf" / "hub").rglob("model.safetensors"))
