"""On real Ray: an idle worker scores splits of the last cell; the rows are what they were."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrator.grid import load_grid
from orchestrator.sweep import run
from workers.methods import methods
from workers.scored_splits import CLAIM, FOLDER
from workers.store import Store, open_store

METHOD = '''
import os
import time
from typing import ClassVar

from workers.methods.base import Method


class Drowsy(Method):
    """The pre-trained model, half asleep."""

    name: ClassVar[str] = "drowsy"

    def assemble(self, module, bench):
        nap = float(os.environ.get("RIB_TEST_NAP", "0"))
        module.register_forward_pre_hook(lambda *_: time.sleep(nap))
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
evaluate: [val, c]
"""

RUN = """
import sys
from functools import partial
from pathlib import Path

import orchestrator.driver
from orchestrator.grid import load_grid
from orchestrator.helping import Helping
from orchestrator.sweep import run

orchestrator.driver.Helping = partial(Helping, look_s=0.5, after_s=0.0)
assert run(load_grid(Path(sys.argv[1]), sys.argv[2]), num_cpus=2).ok
"""

NUMBERS = ["method", "eval_dataset", "corruption", "severity", "n_correct", "n_total", "loss"]


@pytest.fixture(scope="module")
def grid(digits_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("helping")
    (folder / "drowsy.py").write_text(METHOD)
    (folder / "grid.yaml").write_text(GRID.format(root=digits_root, method=folder / "drowsy.py"))
    return folder / "grid.yaml"


@pytest.fixture(scope="module")
def alone(grid: Path) -> Iterator[list[list[Any]]]:
    """The numbers where nobody helps."""
    methods()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("workers.method_files._ADOPTED", {})  # let no other test know the method
        store = grid.with_name("alone")
        assert run(load_grid(grid, str(store)), executor="inline").ok
        yield numbers(rows_of(store))


def rows_of(store: Path) -> list[dict[str, Any]]:
    table = open_store(str(store)).scan("accuracy").table
    rows: list[dict[str, Any]] = table.sort_by([(n, "ascending") for n in NUMBERS]).to_pylist()
    return rows


def numbers(rows: list[dict[str, Any]]) -> list[list[Any]]:
    return [[row[name] for name in NUMBERS] for row in rows]


def wait_for_a_claim(store: Store, driver: subprocess.Popen[bytes]) -> str:
    """Wait until somebody helps; return the cell's id."""
    while True:
        for name in store.storage.walk(FOLDER):
            if name.endswith(CLAIM):
                return name.split("/")[1]
        assert driver.poll() is None, "it ended before anybody helped"
        time.sleep(0.05)


def kill(whom: str, store: Store, cell_id: str, driver: subprocess.Popen[bytes]) -> None:
    attempt = store.read_attempt(cell_id, 1)
    assert attempt is not None
    if whom == "its worker":
        os.kill(attempt["pid"], signal.SIGKILL)
        return
    workers = [
        process.pid
        for process in psutil.Process(driver.pid).children(recursive=True)
        if any(cell_id in part for part in process.cmdline())
    ]
    (helper,) = set(workers) - {attempt["pid"]}
    os.kill(helper, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("killed", ["its worker", "its helper"])
def test_an_idle_worker_helps_the_last_cell_whoever_is_killed(
    grid: Path, alone: list[list[Any]], tmp_path: Path, killed: str
) -> None:
    store = Store(str(tmp_path / "store"))
    driver = subprocess.Popen(
        [sys.executable, "-c", RUN, str(grid), store.uri], env={**os.environ, "RIB_TEST_NAP": "0.3"}
    )
    cell_id = wait_for_a_claim(store, driver)
    kill(killed, store, cell_id, driver)
    assert driver.wait(120) == 0

    rows = rows_of(tmp_path / "store")
    assert numbers(rows) == alone
    times = sorted((r["started_at"], r["finished_at"]) for r in rows if r["method"] == "drowsy")
    at_once = sum(later[0] < sooner[1] for sooner, later in itertools.pairwise(times))
    assert at_once > 3 or killed == "its helper", "no two of its splits were scored at once"
    states = [row["state"] for row in store.scan("attempts").table.to_pylist()]
    assert sorted(states) == ["done", "done"] + ["failed"] * (killed == "its worker")
    store.sweep()  # as the next run does: a helper that was killed left what it said it was at
    assert not list(store.storage.walk(FOLDER))
