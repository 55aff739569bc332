"""Scoring along training on real images: each epoch once, whatever happens between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.embedded import FAST, cell_of
from workers import curve_recorder
from workers.cell import Cell, Model
from workers.curve import Curve
from workers.curve_recorder import CurveRecorder
from workers.evaluate import undisturbed
from workers.job import Job, Site
from workers.outcome import ErrorKind, Outcome
from workers.run import execute
from workers.store import Store

CURVE = Curve(("v2", "a"), every=2, fraction=0.5, seed=3)
PER_TRY = {"attempt", "started_at", "finished_at"}


@pytest.fixture
def cell(resnet: Model) -> Cell:
    return cell_of("ft", resnet, FAST.model_copy(update={"epochs": 3}))


def attempt(
    cell: Cell, root: Path, store: Store, number: int = 1, **about: Any
) -> tuple[Job, Outcome]:
    job = Job(cell, ("a",), attempt=number, **({"curve": CURVE} | about))
    return job, execute(job, Site(store.uri, str(root), state_seconds=0))


def rows(store: Store) -> list[dict[str, Any]]:
    order = [(name, "ascending") for name in ("epoch", "eval_dataset")]
    found: list[dict[str, Any]] = store.scan("accuracy").table.sort_by(order).to_pylist()
    return [{k: v for k, v in row.items() if k not in PER_TRY} for row in found]


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The sets and epochs that are scored along training, as they come."""
    seen: list[tuple[str, int]] = []
    score = curve_recorder.score

    def counted(bench: Any, module: nn.Module, dataset: Any, **about: Any) -> Any:
        seen.append((dataset.spec.name, about["epoch"]))
        return score(bench, module, dataset, **about)

    monkeypatch.setattr(curve_recorder, "score", counted)
    return seen


def test_rows_say_which_part_was_scored(cell: Cell, digits_root: Path, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    job, outcome = attempt(cell, digits_root, store)
    assert outcome.ok, outcome.traceback
    store.seal(cell.cell_id, job.parts)
    assert store.storage.names("accuracy", ".parquet") == [f"{cell.cell_id}.parquet"]
    found = rows(store)
    final = [row for row in found if row["epoch"] is None]
    along = [row for row in found if row["epoch"] is not None]
    assert [row["eval_dataset"] for row in final] == ["a"]
    assert [(row["epoch"], row["eval_dataset"]) for row in along] == [
        (epoch, name) for epoch in (0, 2, 3) for name in ("a", "v2")
    ]
    whole = final[0]
    for row in along:
        assert (row["subset_fraction"], row["subset_seed"]) == (0.5, 3)
        assert row["n_total"] == row["n_expected"]
        if row["eval_dataset"] == "a":
            assert row["n_total"] == whole["n_total"] // 2  # six classes of 14
            assert row["subset_digest"] != row["dataset_digest"] == whole["dataset_digest"]
    assert len({row["subset_digest"] for row in along}) == 2, "one part a set, at every epoch"


def test_a_try_that_dies_between_epochs_leaves_no_gap_and_nothing_twice(
    cell: Cell,
    digits_root: Path,
    tmp_path: Path,
    scored: list[tuple[str, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    undisturbed_store, store = Store(str(tmp_path / "one")), Store(str(tmp_path / "other"))
    assert attempt(cell, digits_root, undisturbed_store)[1].ok
    expected = list(scored)
    scored.clear()

    record = CurveRecorder.record

    def dies(self: CurveRecorder, module: nn.Module, epoch: int) -> None:
        if epoch == 2:
            self.curve = Curve(("v2",), CURVE.every, CURVE.fraction, CURVE.seed)
            record(self, module, epoch)
            raise RuntimeError("killed between two sets")
        record(self, module, epoch)

    with monkeypatch.context() as patched:
        patched.setattr(CurveRecorder, "record", dies)
        assert attempt(cell, digits_root, store)[1].error is ErrorKind.BUG
    assert attempt(cell, digits_root, store, number=2)[1].ok
    assert scored == expected
    assert rows(store) == rows(undisturbed_store)


def test_what_the_driver_knows_of_is_not_scored_again(
    cell: Cell, digits_root: Path, tmp_path: Path, scored: list[tuple[str, int]]
) -> None:
    known = frozenset({("v2", 0), ("a", 0), ("a", 2)})
    assert attempt(cell, digits_root, Store(str(tmp_path)), recorded=known)[1].ok
    assert scored == [("v2", 2), ("v2", 3), ("a", 3)]


def test_a_cell_that_is_trained_has_no_curve_any_more(
    cell: Cell, digits_root: Path, tmp_path: Path, scored: list[tuple[str, int]]
) -> None:
    store = Store(str(tmp_path))
    assert attempt(cell, digits_root, store, curve=None)[1].ok
    assert attempt(cell, digits_root, store, number=2)[1].ok
    assert scored == []
    assert {row["epoch"] for row in rows(store)} == {None}


def test_another_part_hides_none_that_was_scored_before(
    cell: Cell, digits_root: Path, tmp_path: Path
) -> None:
    """A cell that has to be trained again is scored on what the grid asks for by then."""
    store = Store(str(tmp_path))
    for number, fraction in enumerate((0.5, 0.25), start=1):
        curve = Curve(("a",), every=3, fraction=fraction)
        job, outcome = attempt(cell, digits_root, store, number, curve=curve)
        assert outcome.ok
        store.seal(cell.cell_id, job.parts)
        store.storage.delete(f"artifacts/{cell.cell_id}/model.safetensors")
    found = [row for row in rows(store) if row["epoch"] is not None]
    assert sorted((row["epoch"], row["subset_fraction"], row["n_total"]) for row in found) == [
        (epoch, fraction, total)
        for epoch in (0, 3)
        # Six classes of 14 images: 0.25 * 14 = 3.5 is rounded to the even 4.
        for fraction, total in ((0.25, 24), (0.5, 42))
    ]


def test_what_is_evaluated_meanwhile_is_as_it_was() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Dropout(), nn.BatchNorm1d(2))
    module.train()
    module[2].eval()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with undisturbed(module):
        module.eval()
        torch.rand(3)
    assert [part.training for part in module] == [True, True, False]
    assert module.training
    assert torch.equal(torch.get_rng_state(), before)
