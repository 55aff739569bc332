"""Real drivers on one store: stopped by Ctrl-C once and twice, refused, displaced."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import psutil
import pytest

GRID = """
name: drivers
suite: digits-rib
data_root: {root}
models: [{model}]
downstream: [v2, a]
methods: [ft]
evaluate: [val, v2]
resources: {{state_seconds: 10000}}
recipe: {{warmup_steps: 2, epochs: {epochs}, batch_size: {batch_size}, precision: fp32}}
"""
COUNTS = ["cell_id", "eval_dataset", "n_correct", "n_correct_unmasked", "n_total", "loss"]
SHORT, ENDLESS = 6, 20000


def rib(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "orchestrator", *map(str, arguments)]


def said(*arguments: object) -> tuple[int, str]:
    """Run a command to its end; return its exit code and all it printed."""
    done = subprocess.run(rib(*arguments), capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def grid_of(
    folder: Path, root: Path, epochs: int, model: str = "resnet_digits", batch_size: int = 32
) -> Path:
    path = folder / f"grid-{epochs}.yaml"
    text = GRID.format(root=root, epochs=epochs, model=model, batch_size=batch_size)
    path.write_text(text)
    return path


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start drivers as a terminal does, each as the leader of a group of processes."""
    started: list[subprocess.Popen[str]] = []

    def start_one(*arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            rib(*arguments),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )
        started.append(process)
        return process

    yield start_one
    for process in started:
        process.kill()
        process.wait()


def until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def attempts(store: Path) -> pd.DataFrame:
    files = sorted((store / "attempts").glob("*.parquet"))
    rows = [pd.read_parquet(file) for file in files]
    return pd.concat(rows) if rows else pd.DataFrame({"state": [], "downstream": []})


def n_training(store: Path) -> int:
    """How many cells train, the driver having got as far as that."""
    found = attempts(store)
    return int(((found["state"] == "running") & found["downstream"].notna()).sum())


def counts(store: Path) -> pd.DataFrame:
    rows = pd.read_parquet(store / "accuracy")
    return rows[COUNTS].sort_values(COUNTS).reset_index(drop=True)


def states(store: Path) -> set[str]:
    return {path.parent.name for path in store.glob("artifacts/*/training.*.safetensors")}


def drivers(store: Path) -> list[Path]:
    return list((store / "driver").iterdir())


def end(process: subprocess.Popen[str], timeout_s: float = 60.0) -> tuple[int, str, list[int]]:
    """Wait for a driver; return its exit code, what it said, and its processes that are left."""
    family = psutil.Process(process.pid).children(recursive=True)
    _, text = process.communicate(timeout=timeout_s)
    return process.returncode, text, [p.pid for p in psutil.wait_procs(family, timeout=30)[1]]


@pytest.mark.slow
def test_ctrl_c_stops_after_the_epoch_and_the_store_goes_on_from_there(
    digits_root: Path, tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    grid = grid_of(tmp_path, digits_root, SHORT)
    undisturbed, stopped = tmp_path / "undisturbed", tmp_path / "stopped"
    assert said("run", grid, "--store", undisturbed, "--executor", "inline")[0] == 0

    driver = start("run", grid, "--store", stopped, "--cpus", 2)
    until(lambda: n_training(stopped) == 2, driver)
    os.killpg(driver.pid, signal.SIGINT)  # as a terminal does: Ray's processes get it, too
    code, text, left = end(driver)
    assert (code, left) == (130, []), text
    assert "Ctrl-C again stops now" in text
    assert "Traceback" not in text
    found = attempts(stopped)
    trained = found[found["downstream"].notna()]
    assert set(trained["state"]) == {"failed"}
    assert set(trained["error_kind"]) == {"preempted"}
    assert trained["message"].str.contains("asked it to stop after epoch").all()
    assert states(stopped) == set(trained["cell_id"]), "none was due, and each left one"
    assert drivers(stopped) == [], "nothing of the driver is left"
    code, status = said("status", stopped)
    assert code == 1
    assert "nobody drives it now" in status

    code, text = said("resume", stopped, "--executor", "inline")
    assert code == 0, text
    pd.testing.assert_frame_equal(counts(stopped), counts(undisturbed))
    epochs = pd.read_parquet(stopped / "history").groupby("cell_id")["epoch"].max()
    assert (epochs == SHORT).all()
    assert states(stopped) == set()


@pytest.mark.slow
def test_sigterm_stops_softly_too(
    digits_root: Path, tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    """It is what Slurm, Kubernetes and clouds send to a job that is to go."""
    store = tmp_path / "store"
    grid = grid_of(tmp_path, digits_root, SHORT)
    driver = start("run", grid, "--store", store, "--executor", "inline")
    until(lambda: n_training(store) == 1, driver)
    driver.terminate()
    code, text, _ = end(driver)
    assert code == 130, text
    assert "stopping: no cell is started any more" in text
    assert "Traceback" not in text
    assert set(attempts(store)["state"]) <= {"done", "failed"}
    assert drivers(store) == []
    code, text = said("resume", store, "--executor", "inline")
    assert code == 0, text
    assert (pd.read_parquet(store / "history").groupby("cell_id").size() == SHORT).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("executor", "sent"),
    [("ray", signal.SIGINT), ("inline", signal.SIGINT), ("ray", signal.SIGTERM)],
)
def test_ctrl_c_twice_stops_now(
    digits_root: Path,
    tmp_path: Path,
    start: Callable[..., subprocess.Popen[str]],
    executor: str,
    sent: signal.Signals,
) -> None:
    store = tmp_path / "store"
    # Epochs of seconds: what stops between two of them was not stopped softly.
    grid = grid_of(tmp_path, digits_root, ENDLESS, "vit_digits", batch_size=1)
    driver = start("run", grid, "--store", store, "--cpus", 2, "--executor", executor)
    until(lambda: n_training(store) >= 1, driver)
    # A terminal sends Ctrl-C to all of them, who stops a job SIGTERM to the driver.
    send = os.killpg if sent is signal.SIGINT else os.kill
    send(driver.pid, sent)
    until(lambda: not list(store.glob("driver/*.go")), driver)  # two at once are one
    send(driver.pid, sent)
    code, text, left = end(driver, 30.0)
    assert (code, left) == (130, []), text
    assert "Traceback" not in text
    found = attempts(store)
    assert "running" not in set(found["state"])
    if executor == "inline":  # a Ray worker may get to the end of its epoch while Ray stops
        assert (found["message"] == "the driver stopped before this try ended").any()
    assert drivers(store) == []


@pytest.mark.slow
def test_a_second_driver_is_refused_and_takes_over_when_it_says_so(
    digits_root: Path, tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    store = tmp_path / "store"
    first = start("run", grid_of(tmp_path, digits_root, ENDLESS), "--store", store, "--cpus", 2)
    until(lambda: n_training(store) == 2, first)

    code, text = said("resume", store)
    assert code == 2
    for part in (f"pid {first.pid}", "run", "since", "--take-over"):
        assert part in text
    code, text = said("status", store)
    assert f"(pid {first.pid})" in text
    assert "driven by" in text
    assert first.poll() is None

    short = grid_of(tmp_path, digits_root, 1)
    second = start("run", short, "--store", store, "--executor", "inline", "--take-over")
    code, text, left = end(first)
    assert (code, left) == (1, []), text
    assert "its place was taken by" in text
    assert f"(pid {second.pid})" in text
    assert "Traceback" not in text
    code, text, left = end(second, 120.0)
    assert (code, left) == (0, []), text
    assert drivers(store) == []


@pytest.mark.slow
def test_resuming_needs_nothing_but_the_store_of_a_driver_that_was_killed(
    digits_root: Path, tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    store = tmp_path / "store"
    grid = grid_of(tmp_path, digits_root, SHORT)
    driver = start("run", grid, "--store", store, "--cpus", 2)
    until(lambda: n_training(store) >= 1, driver)
    driver.kill()
    driver.wait()
    grid.unlink()
    code, text = said("status", store, "--json")
    assert code == 1
    assert f"pid {driver.pid}" in text
    assert "has died" in text
    assert '"running"' not in text, "nothing is shown as running that is not"
    code, text = said("resume", store, "--executor", "inline")
    assert code == 0, text
