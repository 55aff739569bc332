"""Grids on a real Ray of several nodes, whose GPUs are pretended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.orchestrator.clusters import cluster_of
from tests.orchestrator.rib import rib
from workers.store import Store


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with cluster_of(
        {"num_cpus": 2, "num_gpus": 1, "labels": {"zone": "a"}},
        {"num_cpus": 1, "labels": {"zone": "b"}},
    ) as found:
        yield found


def write_grid(folder: Path, data_root: Path, **keys: Any) -> Path:
    value = {
        "name": "mixed",
        "suite": "digits-rib",
        "data_root": str(data_root),
        "store": str(folder / "store"),
        "downstream": ["v2"],
        "evaluate": ["val"],
        "recipe": {"epochs": 1, "precision": "fp32"},
        "models": [
            {"name": "vit_digits", "resources": {"gpus": 0.5, "labels": {"zone": "a"}}},
            {"name": "resnet_digits", "resources": {"labels": {"zone": "b"}}},
        ],
        "methods": ["ft", {"method": "lwf", "resources": {"memory": "100MiB"}}],
        **keys,
    }
    path = folder / "grid.yaml"
    path.write_text(yaml.safe_dump(value))
    return path


@pytest.mark.slow
def test_cells_that_ask_for_different_things_are_one_grid(
    cluster: Any, digits_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = write_grid(tmp_path, digits_root)
    assert rib("run", grid, "--address", cluster.address) == 0
    told = capsys.readouterr().err
    assert "2 nodes have the driver's code, data, weights and store" in told
    assert "[6/6] done" in told
    rows = Store(str(tmp_path / "store")).scan("attempts").table.to_pylist()
    reserved = {(row["method"], row["memory_bytes"]) for row in rows}
    assert reserved == {("pretrained", None), ("ft", None), ("lwf", 100 * 2**20)}


@pytest.mark.slow
def test_each_class_that_fits_nowhere_is_refused_with_its_model_or_method(
    cluster: Any, digits_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = [{"name": "vit_digits", "resources": {"gpus": 2}}, "resnet_digits"]
    methods = ["ft", {"method": "lwf", "resources": {"cpus": 3}}]
    grid = write_grid(tmp_path, digits_root, models=models, methods=methods)
    assert rib("run", grid, "--address", cluster.address) == 2
    told = capsys.readouterr().err
    for wrong in (
        "resources.gpus: a cell of model vit_digits asks for 2, no node has more than 1",
        "resources.cpus: a cell of method lwf asks for 3, no node has more than 2",
    ):
        assert wrong in told
    assert not (tmp_path / "store").exists()


@pytest.mark.slow
def test_machines_are_asked_before_distances_are_measured(
    cluster: Any, digits_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = write_grid(tmp_path, digits_root, distance={"model": "resnet_digits", "samples": 100})
    assert rib("distance", grid, "--address", cluster.address) == 0
    told = capsys.readouterr().err
    # The distance's cell is of a model that asks for nodes of one zone alone.
    assert "1 node has the driver's code, data, weights and store" in told
