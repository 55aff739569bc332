"""A whole grid in S3 that fails, is slow and hangs up: planned, run, killed, resumed, read."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.s3 import CREDENTIALS, FAULTS, S3, serving
from workers.store import Store

GRID = """
name: object-store
suite: digits-rib
data_root: {root}
models: [resnet_digits]
downstream: [v2, a]
methods: [ft, {{method: soup, members: [pretrained, ft]}}]
evaluate: [val, v2, a, r]
recipe: {{warmup_steps: 2, epochs: 2, batch_size: 32, precision: fp32}}
"""
N_CELLS = 1 + 2 * 2
COUNTS = [
    "cell_id",
    "eval_dataset",
    "n_correct",
    "n_correct_unmasked",
    "n_total",
    "n_expected",
    "loss",
]


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with serving() as server:
        yield server


def rib(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "orchestrator", *map(str, arguments)]


def outcome_of(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(rib(*arguments), capture_output=True, text=True)


def rows(store: Store) -> list[dict[str, object]]:
    """Every row in every file, those with the same key included."""
    found: list[dict[str, object]] = store.read_files("accuracy", COUNTS).table.to_pylist()
    return sorted(({k: r[k] for k in COUNTS} for r in found), key=str)


def wait_until_done(store: Store, process: subprocess.Popen[bytes], n: int) -> None:
    deadline = time.monotonic() + 200
    while sum(name.count(".") == 1 for name in store.storage.names("accuracy")) < n:
        assert process.poll() is None, "the grid ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_a_grid_in_s3_ends_as_one_on_a_disk(s3: S3, digits_root: Path, tmp_path: Path) -> None:
    grid = tmp_path / "grid.yaml"
    grid.write_text(GRID.format(root=digits_root))
    local = tmp_path / "local"
    assert outcome_of("run", grid, "--store", local, "--executor", "inline").returncode == 0

    uri, direct = s3.uri("runs/one"), Store(s3.uri("runs/one", direct=True))
    s3.plan(seed=11, share=0.05, next_puts="cut,500,503,slow")
    planned = outcome_of("plan", grid, "--store", uri, "--json")
    assert planned.returncode == 0, planned.stderr
    inline = rib("run", grid, "--store", uri, "--executor", "inline")
    driver = subprocess.Popen(inline, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until_done(direct, driver, 2)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    finished = {row["cell_id"] for row in rows(direct)}
    assert 0 < len(finished) < N_CELLS
    assert outcome_of("status", uri).returncode == 1

    resumed = outcome_of("resume", uri, "--cpus", "1")  # on Ray
    assert resumed.returncode == 0, resumed.stderr
    assert set(s3.faults()) == set(FAULTS)
    assert rows(direct) == rows(Store(str(local)))
    tries, logs = (direct.storage.names(folder) for folder in ("attempts", "logs"))
    assert {name.removesuffix(".parquet") for name in tries} <= {
        name.removesuffix(".log") for name in logs
    }, "also that of the try that was killed"
    verified = outcome_of("verify", uri)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "all well" in verified.stdout
    reports = [outcome_of("report", store, "--format", "csv") for store in (uri, local)]
    assert reports[0].stdout == reports[1].stdout != ""
    assert reports[0].returncode == reports[1].returncode == 1  # not all sets are ranked
    idle = outcome_of("resume", uri, "--executor", "inline")
    assert "nothing left to do" in idle.stderr
