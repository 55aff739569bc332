"""Killing the driver in the middle of a grid, and going on: nothing lost, nothing done twice."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest

GRID = """
name: resume
suite: digits-rib
data_root: {root}
models: [resnet_digits]
downstream: [v2, a]
methods: [ft, lwf, {{method: soup, members: [pretrained, ft, lwf]}}]
evaluate: [val, v2, a, sketch]
recipe: {{warmup_steps: 2, epochs: 2, batch_size: 32, precision: fp32}}
"""
N_CELLS = 1 + 2 * 3
COUNTS = ["cell_id", "eval_dataset", "n_correct", "n_correct_unmasked", "n_total", "loss"]


def rib(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "orchestrator", *map(str, arguments)]


def counts(store: Path) -> pd.DataFrame:
    rows = pd.read_parquet(store / "accuracy")
    return rows[COUNTS].sort_values(COUNTS).reset_index(drop=True)


def wait_until_some_are_done(store: Path, process: subprocess.Popen[bytes], n: int) -> None:
    deadline = time.monotonic() + 120
    # The files of a cell that still runs have its id and a set's name: <cell_id>.<set>.parquet.
    while sum("." not in path.stem for path in (store / "accuracy").glob("*.parquet")) < n:
        assert process.poll() is None, "the grid ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def wait_until_gone(processes: list[psutil.Process]) -> list[psutil.Process]:
    return psutil.wait_procs(processes, timeout=120)[1]


@pytest.mark.slow
def test_a_killed_driver_s_grid_ends_as_an_undisturbed_one(
    digits_root: Path, tmp_path: Path
) -> None:
    grid = tmp_path / "grid.yaml"
    grid.write_text(GRID.format(root=digits_root))
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    inline = rib("run", grid, "--store", undisturbed, "--executor", "inline")
    subprocess.run(inline, check=True, capture_output=True)

    on_ray = rib("run", grid, "--store", killed, "--cpus", "2")
    driver = subprocess.Popen(on_ray, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until_some_are_done(killed, driver, 2)
    family = psutil.Process(driver.pid).children(recursive=True)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()

    done = subprocess.run(rib("status", killed), capture_output=True, text=True)
    assert done.returncode == 1
    before = pd.read_parquet(killed / "attempts")
    finished = set(before[before["state"] == "done"]["cell_id"])
    assert 0 < len(finished) < N_CELLS

    again = subprocess.run(on_ray, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "mRI" in again.stdout
    # Another executor and an interruption: the rows are the same to the last count and bit.
    pd.testing.assert_frame_equal(counts(killed), counts(undisturbed))
    after = pd.read_parquet(killed / "attempts")
    tries = after.groupby("cell_id").size()
    assert len(tries) == N_CELLS
    assert (tries[list(finished)] == 1).all(), "a finished cell was run again"
    assert set(after["state"]) <= {"done", "failed"}
    assert set(after[after["state"] == "failed"]["error_kind"]) <= {"preempted"}
    assert not list(killed.rglob("*.tmp"))

    status = subprocess.run(rib("status", killed), capture_output=True, text=True)
    assert status.returncode == 0, status.stdout
    assert wait_until_gone(family) == [], "Ray outlived its driver"
    idle = subprocess.run(rib("resume", killed), capture_output=True, text=True)
    assert idle.returncode == 0
    assert "nothing left to do" in idle.stderr
