"""`rib tune` on real Ray Tune: search, go on after Ctrl-C, choose, and run what was chosen."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from orchestrator.grid import load_grid
from orchestrator.plan import expand
from tests.orchestrator.rib import rib

GRID = """
name: tuning
suite: digits-rib
data_root: {root}
store: {store}
models: [resnet_digits]
downstream: [a]
methods: [ft, l2sp]
evaluate: [val, a]
recipe: {{warmup_steps: 2, epochs: 2, batch_size: 32, precision: fp32, lr: 1.0e-6}}
tune:
  trials: 8
  holdout: 0.25
  space:
    recipe: {{lr: {{log_uniform: [1.0e-3, 1.0e-1]}}}}
"""
N_TRIALS = 2 * 8


def trials_in(store: Path) -> pd.DataFrame:
    rows = [pd.read_parquet(path) for path in sorted((store / "tuning").glob("*.parquet"))]
    return pd.concat(rows, ignore_index=True)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_search_is_interrupted_gone_on_with_and_used(
    tmp_path: Path, digits_root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    store, path, tuned = tmp_path / "store", tmp_path / "grid.yaml", tmp_path / "tuned.yaml"
    path.write_text(GRID.format(root=digits_root, store=store))
    command = [sys.executable, "-m", "orchestrator", "tune", str(path)]
    # One trial after another: two at a time can be over before a busy machine hears of Ctrl-C.
    interrupt_after_the_first_trial([*command, "--cpus", "1"], store)
    command += ["--cpus", "2"]
    before = {f: f.read_bytes() for f in (store / "tuning").iterdir()}
    assert 0 < len(before) < N_TRIALS

    # Going on runs the rest, and only that.
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{N_TRIALS - len(before)} trials of 2 searches to run" in done.stderr
    assert all(file.read_bytes() == data for file, data in before.items())
    trials = trials_in(store)
    assert len(trials) == N_TRIALS
    assert set(trials["state"]) <= {"done", "stopped"}
    assert set(trials["held_out_total"]) == {6 * round(0.25 * 14)}
    check_what_was_found(json.loads(done.stdout), trials)

    # Now there is nothing to do but to write the grid.
    assert rib("tune", path, "--out", tuned) == 0
    said = capfd.readouterr()
    assert "to run" not in said.err
    assert "lr" in said.out
    check_what_was_written(load_grid(path), load_grid(tuned), trials)

    assert rib("run", tuned, "--executor", "inline", "--json") in (0, 1)
    capfd.readouterr()
    rows = pd.concat([pd.read_parquet(f) for f in (store / "accuracy").iterdir()])
    chosen = {cell.cell_id for cell in expand(load_grid(tuned))}
    assert set(rows["cell_id"]) == chosen
    assert rib("resume", store, "--executor", "inline") == 0
    assert "nothing left to do" in capfd.readouterr().err


def interrupt_after_the_first_trial(command: list[str], store: Path) -> None:
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, process_group=0
    )
    deadline = time.monotonic() + 120
    while not list((store / "tuning").glob("*.parquet")):
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "run the same command again to go on" in said


def check_what_was_found(found: list[dict[str, Any]], trials: pd.DataFrame) -> None:
    """Choose again by hand, from the rows."""
    assert [one["method"] for one in found] == ["ft", "l2sp"]
    for one in found:
        mine = trials[trials["search"] == one["search"]]
        finished = mine[mine["state"] == "done"].sort_values("trial")
        best = finished.loc[finished["held_out_correct"].idxmax()]  # the first of equals
        assert one["best"]["trial"] == best["trial"]
        assert one["best"]["held_out_correct"] == best["held_out_correct"]
        assert one["recipe"] == {"lr": json.loads(best["recipe"])["lr"]}
        # A rate of a millionth teaches nothing: another one is better.
        own = mine[mine["trial"] == 0].iloc[0]
        assert one["own"]["held_out_correct"] == own["held_out_correct"]


def check_what_was_written(plain: Any, tuned: Any, trials: pd.DataFrame) -> None:
    rates = {choice.method: choice.recipe["lr"] for choice in tuned.choices.values()}
    for cell in expand(tuned):
        if cell.recipe is not None:
            assert cell.recipe["lr"] == rates[cell.label]
            assert cell.recipe["holdout"] == 0.0
    assert plain.recipe == tuned.recipe
    searches = set(trials["search"])
    for choice in tuned.choices.values():
        assert any(search in choice.source for search in searches)
