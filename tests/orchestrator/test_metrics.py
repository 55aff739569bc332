"""What a sweep tells Prometheus, and that the dashboard asks for that and nothing else."""

from __future__ import annotations

import importlib.util
import json
import re
import time
import urllib.request
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.util import metrics as ray_metrics

from orchestrator import ray_executor
from orchestrator.metrics import LONGEST, Meter
from orchestrator.plan import Plan
from orchestrator.sweep_state import SweepState
from tests.cells import make_cell
from tests.orchestrator.clusters import cluster_of
from tests.orchestrator.test_driver import Scripted
from tests.orchestrator.test_sweep_state import GPU, begin, event, node_of
from workers.outcome import ErrorKind as E
from workers.outcome import Outcome
from workers.store import Store

DASHBOARD = Path(__file__).resolve().parents[2] / "docker" / "grafana" / "rib.json"
A, B, C = make_cell("a"), make_cell("b"), make_cell("c")
Series = tuple[str, frozenset[tuple[str, str]]]


class Recorder:
    """Makes metrics that remember what they were given."""

    def __init__(self) -> None:
        self.labels: dict[str, set[str]] = {}
        self.values: dict[Series, list[float]] = {}
        self.kinds: dict[str, str] = {}

    def __getattr__(self, kind: str) -> Any:
        def make(name: str, description: str, tag_keys: tuple[str, ...], **more: Any) -> Any:
            assert description
            self.labels[name], self.kinds[name] = set(tag_keys), kind

            def take(value: float, tags: dict[str, str]) -> None:
                assert set(tags) == self.labels[name]
                self.values.setdefault((name, frozenset(tags.items())), []).append(value)

            return SimpleNamespace(set=take, inc=take, observe=take)

        return make

    def last(self, name: str, **tags: str) -> float:
        return self.values[name, frozenset({"grid": "g", **tags}.items())][-1]


def drive(meter: Meter, state: SweepState, store: Store) -> None:
    """Run three cells, one on a GPU and one on a CPU at the end."""
    for cell, gpu in ((A, GPU), (B, ""), (C, "")):
        state.see(event("submitted", cell))
        begin(store, cell, gpu)
    state.look_round()
    meter.look_round()
    for cell, outcome in ((A, Outcome(seconds=7.0)), (B, Outcome(error=E.CUDA_OOM))):
        ended = event("done" if outcome.ok else "retry", cell, outcome)
        ended = replace(ended, node=replace(ended.node, training_images=300))
        state.see(ended)
        meter.see(ended)
    meter.look_round()


def state_in(folder: Path) -> tuple[SweepState, Store]:
    store = Store(str(folder))
    store.create("s", "1")
    nodes = {cell.cell_id: node_of(cell, training=300) for cell in (A, B, C)}
    return SweepState(Plan(nodes, frozenset(nodes)), Scripted(store), store), store


def test_a_sweep_is_measured(tmp_path: Path) -> None:
    state, store = state_in(tmp_path)
    found = Recorder()
    drive(Meter(found, "g", state), state, store)
    assert found.last("rib_cells", state="done") == 1
    assert found.last("rib_cells", state="running") == 1
    assert found.last("rib_cells", state="waiting") == 1
    assert found.last("rib_tries", end="done") == 1
    assert found.last("rib_tries", end="cuda_oom") == 1
    assert found.last("rib_images", model="m", phase="train") == 300
    assert found.last("rib_images", model="m", phase="test") == 10
    assert found.last("rib_cell_seconds", model="m", method="a") == 7.0
    assert found.last("rib_seconds_left") > 0
    on_gpu = found.values[
        "rib_device_cells", frozenset({"grid": "g", "host": "n1", "device": GPU}.items())
    ]
    assert on_gpu == [1, 0], "an idle device says so"


def test_a_name_of_any_length_is_cut(tmp_path: Path) -> None:
    state, store = state_in(tmp_path)
    found = Recorder()
    drive(Meter(found, "g" * 1000, state), state, store)
    assert {dict(tags)["grid"] for _, tags in found.values} == {"g" * LONGEST}


def test_the_dashboard_asks_for_what_there_is(tmp_path: Path) -> None:
    state, _ = state_in(tmp_path)
    made = Recorder()
    Meter(made, "g", state)
    suffixes = {"Gauge": "", "Counter": "_total", "Histogram": "_bucket"}
    known = {f"ray_{name}{suffixes[kind]}": made.labels[name] for name, kind in made.kinds.items()}
    board = json.loads(DASHBOARD.read_text())
    asked = [one["expr"] for panel in board["panels"] for one in panel["targets"]]
    used: set[str] = set()
    for query in asked:
        [name] = re.findall(r"ray_rib_\w+", query)
        used.add(name)
        by = set(re.findall(r"\w+", re.search(r"by \((.*?)\)", query)[1])) - {"le"}  # type: ignore[index]
        assert by <= known[name], query
    assert used == set(known)
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("prometheus_client") is None,
    reason="Ray gives out metrics with rib-orchestrator[cluster] alone",
)
def test_prometheus_gets_it_from_ray(tmp_path: Path) -> None:
    state, store = state_in(tmp_path)
    with cluster_of({"num_cpus": 1}) as cluster:
        ray_executor.connect(cluster.address, None)
        Meter(ray_metrics, "g", state)  # a canary's baselines are measured first
        drive(Meter(ray_metrics, "g", state), state, store)
        ports = [node["MetricsExportPort"] for node in ray.nodes()]
        deadline, text = time.monotonic() + 60, ""
        while "ray_rib_cell_seconds_bucket" not in text and time.monotonic() < deadline:
            time.sleep(1)
            text = "".join(map(scraped, ports))
    assert re.search(r'ray_rib_tries_total\{.*end="cuda_oom".*\} 1.0', text)
    assert re.search(r'ray_rib_cells\{.*grid="g".*state="running".*\} 1.0', text)
    assert re.search(rf'ray_rib_device_cells\{{.*device="{GPU}".*\}} 0.0', text)


def scraped(port: int) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text: str = answer.read().decode()
    except OSError:
        return ""
    return text
