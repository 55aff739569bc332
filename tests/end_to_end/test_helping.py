"""On real Ray: an idle worker scores splits of the last cell, and the rows are what they were."""

from __future__ import annotations

import itertools
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from orchestrator.grid import load_grid
from orchestrator.helping import Helping
from orchestrator.sweep import run
from workers.methods import methods
from workers.scored_splits import FOLDER
from workers.store import open_store

METHOD = '''
import time
from typing import ClassVar

from workers.methods.base import Method


class Drowsy(Method):
    """The pre-trained model, half asleep: each batch takes it half a second."""

    name: ClassVar[str] = "drowsy"

    def assemble(self, module, bench):
        module.register_forward_pre_hook(lambda *_: time.sleep(0.5))
        return module

    def build(self, bench):
        return self.assemble(bench.pretrained(), bench)
'''

GRID = """
name: helping
suite: digits-rib
data_root: {root}
models: [resnet_digits]
downstream: [a]
methods: [drowsy]
method_files: [{method}]
evaluate: [val, v2, c]
"""
NUMBERS = ["method", "eval_dataset", "corruption", "severity", "n_correct", "n_total", "loss"]


@pytest.fixture(autouse=True)
def forgotten_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no other test know the method."""
    methods()
    monkeypatch.setattr("workers.method_files._ADOPTED", {})


def rows_of(store: Path) -> list[dict[str, Any]]:
    table = open_store(str(store)).scan("accuracy").table
    rows: list[dict[str, Any]] = table.sort_by([(n, "ascending") for n in NUMBERS]).to_pylist()
    return rows


@pytest.mark.slow
def test_an_idle_worker_helps_the_last_cell(
    digits_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, path = tmp_path / "drowsy.py", tmp_path / "grid.yaml"
    method.write_text(METHOD)
    path.write_text(GRID.format(root=digits_root, method=method))
    eager = partial(Helping, look_s=0.5, after_s=0.0)
    monkeypatch.setattr("orchestrator.driver.Helping", eager)
    result = run(load_grid(path, str(tmp_path / "ray")), num_cpus=2)
    assert result.ok
    with monkeypatch.context() as awake:
        awake.setattr("time.sleep", lambda _: None)
        assert run(load_grid(path, str(tmp_path / "alone")), executor="inline").ok

    found, alone = rows_of(tmp_path / "ray"), rows_of(tmp_path / "alone")
    assert [[row[name] for name in NUMBERS] for row in found] == [
        [row[name] for name in NUMBERS] for row in alone
    ]
    times = sorted((r["started_at"], r["finished_at"]) for r in found if r["method"] == "drowsy")
    at_once = sum(later[0] < sooner[1] for sooner, later in itertools.pairwise(times))
    assert at_once > 5, "no two of its splits were scored at the same time"
    assert not list(open_store(str(tmp_path / "ray")).storage.walk(FOLDER))
