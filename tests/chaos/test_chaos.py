"""The chaos test, shortened; and that its own parts can tell what is wrong."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import psutil
import pytest

from tests.chaos.__main__ import options_of, parse, record
from tests.chaos.cluster import freeze, kill
from tests.chaos.compare import compare
from tests.chaos.faults import KINDS, draws
from tests.chaos.rounds import Report
from tests.chaos.sandbox import PROJECT, is_gone

SHORT = "worker,raylet,driver,disk,table,checkpoint,state,cut-off"
"""All but those that last longer than the lease."""


@pytest.mark.slow
@pytest.mark.skipif("RIB_TEST_CHAOS" not in os.environ, reason="asked for by RIB_TEST_CHAOS=1")
def test_a_grid_under_fire_ends_as_an_undisturbed_one(digits_root: Path) -> None:
    options = f"--small --json --faults 8 --seed 7 --every 2 --frozen 8 --kinds {SHORT}".split()
    command = [sys.executable, "-m", "tests.chaos", "--data", str(digits_root), *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["findings"] == []
    assert sum(report["faults"].values()) == 8
    assert report["comparison"]["rows"] >= 7 * 42  # of 7 cells, on val, v2 and c with 8 * 5 splits
    assert report["cells_tried_again"] > 0


def test_a_report_can_be_read_by_programs() -> None:
    report = Report(faults=Counter({"worker": 2, "disk": 1}))
    report.comparison.rows = 42
    options = options_of(parse(["--faults", "3"]), is_isolated=True)
    read = json.loads(json.dumps(record(options, report)))
    assert read["faults"] == {"worker": 2, "disk": 1}
    assert read["comparison"]["rows"] == 42
    assert read["findings"] == []


def test_a_seed_gives_one_sequence() -> None:
    def first(seed: int, n: int) -> list[str]:
        return [str(draw) for draw in itertools.islice(draws(seed, tuple(KINDS)), n)]

    assert first(7, 200) == first(7, 200)
    assert first(7, 200) != first(8, 200)
    kinds = [draw.kind for draw in itertools.islice(draws(7, tuple(KINDS)), len(KINDS))]
    assert sorted(kinds) == sorted(KINDS), "each kind comes once before any comes twice"


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen(["sleep", "60"])
    yield started
    started.kill()
    started.wait()


def test_a_kill_counts_only_when_it_hits(process: subprocess.Popen[bytes]) -> None:
    one = psutil.Process(process.pid)
    assert freeze(one)
    assert not is_gone(one)
    assert kill(one)
    assert not kill(one), "it was dead already"
    process.wait()
    assert not kill(one)
    assert not freeze(one)


def write(folder: Path, correct: list[int], sets: list[str], weights: bytes = b"w") -> Path:
    """Write a store of one cell: a merged file of rows, its history and its checkpoint."""
    for name in ("accuracy", "history", "artifacts/c", "damaged"):
        (folder / name).mkdir(parents=True)
    rows = pd.DataFrame(
        {
            "cell_id": "c",
            "epoch": pd.array([None] * len(sets), "Int64"),
            "eval_dataset": sets,
            "corruption": pd.array([None] * len(sets), "string"),
            "severity": pd.array([None] * len(sets), "Int64"),
            "n_correct": correct,
            "attempt": 1,
        }
    )
    rows.to_parquet(folder / "accuracy" / "c.parquet")
    history = pd.DataFrame({"cell_id": "c", "epoch": [1, 2], "loss": [0.5, 0.25], "seconds": 1.0})
    history.to_parquet(folder / "history" / "c.parquet")
    (folder / "artifacts" / "c" / "model.safetensors").write_bytes(weights)
    return folder


def worse(store: Path) -> None:
    write_table(store / "accuracy" / "c.parquet", lambda rows: rows.assign(n_correct=[3, 5]))


def shorter(store: Path) -> None:
    write_table(store / "accuracy" / "c.parquet", lambda rows: rows[:1])


def doubled(store: Path) -> None:
    rows = pd.read_parquet(store / "accuracy" / "c.parquet")
    rows[:1].to_parquet(store / "accuracy" / "c.val.parquet")


def foreign(store: Path) -> None:
    rows = pd.read_parquet(store / "accuracy" / "c.parquet").assign(cell_id="d")
    rows.to_parquet(store / "accuracy" / "d.parquet")


def blank(store: Path) -> None:
    def without(rows: pd.DataFrame) -> pd.DataFrame:
        return rows.assign(n_correct=pd.array([3, None], "Int64"))

    write_table(store / "accuracy" / "c.parquet", without)


def other_epoch(store: Path) -> None:
    write_table(store / "history" / "c.parquet", lambda rows: rows.assign(loss=[0.5, 0.26]))


def other_weights(store: Path) -> None:
    (store / "artifacts" / "c" / "model.safetensors").write_bytes(b"v")


def no_weights(store: Path) -> None:
    (store / "artifacts" / "c" / "model.safetensors").unlink()


def write_table(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    change(pd.read_parquet(path)).to_parquet(path)


@pytest.mark.parametrize(
    ("spoil", "where"),
    [
        (worse, "different"),
        (blank, "different"),
        (shorter, "lost"),
        (doubled, "doubled"),
        (foreign, "foreign"),
        (other_epoch, "different"),
        (other_weights, "different"),
        (no_weights, "lost"),
    ],
)
def test_whatever_differs_is_found(
    tmp_path: Path, spoil: Callable[[Path], None], where: str
) -> None:
    undisturbed = write(tmp_path / "undisturbed", [3, 4], ["val", "v2"])
    store = write(tmp_path / "store", [3, 4], ["val", "v2"])
    same = compare(store, undisturbed)
    assert (same.rows, same.epochs, same.checkpoints, same.differences) == (2, 2, 1, [])
    spoil(store)
    assert getattr(compare(store, undisturbed), where)


def test_what_only_tells_when_a_row_was_made_may_differ(tmp_path: Path) -> None:
    undisturbed = write(tmp_path / "undisturbed", [3, 4], ["val", "v2"])
    store = write(tmp_path / "store", [3, 4], ["val", "v2"])
    write_table(store / "accuracy" / "c.parquet", lambda rows: rows.assign(attempt=[1, 5])[::-1])
    assert compare(store, undisturbed).differences == []


def test_a_damaged_checkpoint_that_nothing_needs_is_not_missed(tmp_path: Path) -> None:
    undisturbed = write(tmp_path / "undisturbed", [3, 4], ["val", "v2"])
    store = write(tmp_path / "store", [3, 4], ["val", "v2"])
    no_weights(store)
    (store / "damaged" / "artifacts.c.model.safetensors").touch()
    assert compare(store, undisturbed).differences == []
