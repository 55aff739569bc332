"""What the page on extending shows is what works."""

import csv
import re
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pandas as pd
import pytest

from orchestrator.cli.export import Tool
from orchestrator.export import EXPORTERS, export
from orchestrator.export.cells import read_source
from orchestrator.extensions import load_suite
from tests.orchestrator.rib import rib
from tests.stores import drawn_store
from workers.methods import Method, methods
from workers.suites import suites
from workers.suites.base import DatasetSpec

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "extending.md").read_text()
BLOCK = re.compile(r'^```\w+(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
SHOWN = dict(BLOCK.findall(PAGE))

GRID = """
name: extended
suite: digits-rib
data_root: {root}
models: [resnet_digits]
downstream: [a]
methods: [{{method: feature-pull, strength: 0.5}}]
method_files: [{method}]
evaluate: [val]
recipe: {{warmup_steps: 1, epochs: 1, batch_size: 32, precision: fp32}}
"""


@pytest.fixture(autouse=True)
def forgotten_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no other test know what is adopted here."""
    methods()
    monkeypatch.setattr("workers.suites._ADOPTED", {})
    monkeypatch.setattr("workers.method_files._ADOPTED", {})
    monkeypatch.setattr(Method, "registered", dict(Method.registered))


def written(title: str, folder: Path) -> Path:
    path = folder / title
    path.write_text(SHOWN[title])
    return path


def test_the_suite_is_one(tmp_path: Path) -> None:
    suite = load_suite(written("shapes.yaml", tmp_path))
    assert suite.ood_names == ("outline", "pencil", "fog")
    assert suite.contaminates("pencil") == ("val",)
    assert suite.dataset("pencil").folder == "drawings/pencil"
    assert suite.dataset("fog").splits == (("fog", 1), ("fog", 3), ("fog", 5))


@pytest.mark.slow
def test_the_method_is_trained(tmp_path: Path, digits_root: Path) -> None:
    grid = tmp_path / "grid.yaml"
    grid.write_text(GRID.format(root=digits_root, method=written("feature_pull.py", tmp_path)))
    store = tmp_path / "store"
    rib("run", grid, "--store", store, "--executor", "inline")
    rows = pd.read_parquet(store / "accuracy")
    assert sorted(rows["method"]) == ["feature-pull", "pretrained"]


def test_the_data_set_goes_with_its_suite() -> None:
    spec = eval(SHOWN[""], {"DatasetSpec": DatasetSpec})
    assert spec.derived_from == suites()["imagenet-rib"].id.name


def test_the_exporter_writes(
    tmp_path: Path, digits_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_from_file_location("orchestrator.export.one_csv", written("one_csv.py", tmp_path))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, "orchestrator.export.one_csv", module)
    monkeypatch.setitem(EXPORTERS, "csv", "one_csv")
    store = drawn_store(tmp_path / "store", digits_root)
    done = export(store, "csv", tmp_path / "out")
    with (tmp_path / "out" / "accuracies.csv").open() as file:
        lines = list(csv.DictReader(file))
    cells = read_source(store).cells
    assert done.n_cells == len(cells)
    assert [float(line["accuracy"]) for line in lines] == [
        accuracy for one in cells for accuracy in one.accuracies.values()
    ]


def test_the_command_line_has_every_exporter() -> None:
    assert {tool.value for tool in Tool} == set(EXPORTERS)
