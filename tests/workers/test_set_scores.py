"""Whoever scores a cell's splits, in whatever passes: its rows are the same to the bit."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.embedded import cell_of, embedded_model
from workers import set_scores
from workers.bench import Bench
from workers.cell import Cell
from workers.errors import PreemptedError
from workers.helping import help_out
from workers.job import Job, Site
from workers.outcome import ErrorKind
from workers.run import execute
from workers.schemas import KEYS
from workers.scored_splits import FOLDER, Place, ScoredSplits
from workers.store import CHECKPOINT, Store

SETS = ("val", "v2", "c")
N_SPLITS = 2 + 40
NUMBERS = ("n_correct", "n_correct_unmasked", "n_total", "n_expected", "loss")


@dataclass
class Lab:
    """A store, and whom its cells' splits are scored by."""

    site: Site
    scored: list[str]
    """The splits that were really scored, in their order, each with the models' number."""

    @property
    def store(self) -> Store:
        return Store(self.site.store)

    def run(self, cell: Cell, attempt: int = 1, **more: Any) -> None:
        outcome = execute(Job(cell, SETS, attempt, **more), self.site)
        assert outcome.ok, outcome.traceback

    def make(self, cell: Cell) -> None:
        """Make a cell's model and those it starts from, without scoring any."""
        for parent in cell.parents:
            if not parent.is_baseline and not self.store.has_checkpoint(parent.cell_id):
                self.make(parent)
        assert execute(Job(cell, ()), self.site).ok

    def help(self, cell: Cell, **more: Any) -> int:
        outcome = help_out(Job(cell, SETS, helps=True, **more), self.site)
        assert outcome.ok, outcome.traceback
        return outcome.rows

    def has(self, cell: Cell) -> bool:
        return cell.cell_id in self.store.committed().splits

    def rows(self, cell: Cell) -> list[tuple[Any, ...]]:
        rows = self.store.scan("accuracy").table.to_pylist()
        mine = [row for row in rows if row["cell_id"] == cell.cell_id]
        found = [tuple(row[name] for name in (*KEYS["accuracy"], *NUMBERS)) for row in mine]
        assert len(found) == N_SPLITS
        return sorted(found, key=str)

    @property
    def left_over(self) -> list[str]:
        return list(self.store.storage.walk(FOLDER))


@pytest.fixture
def lab(digits_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    lab = Lab(Site(store=str(tmp_path / "store"), data_root=str(digits_root)), [])
    score_together = Bench.score_together

    def noting(self: Bench, modules: Any, dataset: Any, split: Any) -> Any:
        shown = "/".join(filter(None, (dataset.spec.name, split.corruption, str(split.severity))))
        lab.scored.append(f"{shown} x{len(modules)}")
        return score_together(self, modules, dataset, split)

    monkeypatch.setattr(Bench, "score_together", noting)
    return lab


@pytest.fixture(scope="module")
def alone(digits_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A lab in which nothing is shared."""
    store = tmp_path_factory.mktemp("alone")
    return Lab(Site(store=str(store), data_root=str(digits_root)), [])


def same(lab: Lab, alone: Lab, cell: Cell) -> bool:
    """Whether a cell's rows are those that its worker makes alone, in one go."""
    if not alone.has(cell):
        alone.make(cell)
        alone.run(cell, attempt=2)
    return lab.rows(cell) == alone.rows(cell)


@pytest.fixture
def every_split_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(set_scores, "KEEP_S", -1.0)


@pytest.fixture
def cell(digits_root: Path) -> Cell:
    return cell_of("ft", embedded_model("resnet_digits", digits_root))


def run_until_ten_are_kept(lab: Lab, cell: Cell) -> None:
    """Have a try die when it has kept the rows of ten splits."""
    keep, kept = ScoredSplits.keep, []

    def dies(self: ScoredSplits, rows: Any) -> None:
        keep(self, rows)
        kept.append(rows)
        if len(kept) == 10:
            raise PreemptedError("killed")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ScoredSplits, "keep", dies)
        assert execute(Job(cell, SETS), lab.site).error is ErrorKind.PREEMPTED


def test_a_helper_leaves_the_first_split_to_the_cell_s_worker_who_takes_over_the_rest(
    lab: Lab, alone: Lab, cell: Cell
) -> None:
    lab.make(cell)
    assert lab.help(cell) == N_SPLITS - 1
    assert lab.scored[0].startswith("c/")  # from the last one back
    assert lab.scored[-1] == "v2/None x1"
    assert lab.help(cell) == 0, "there is nothing left that could be done"
    lab.scored.clear()
    lab.run(cell)
    assert lab.scored == ["val/None x1"]
    assert lab.left_over == []
    assert same(lab, alone, cell)


def test_a_worker_and_helpers_at_once(lab: Lab, alone: Lab, cell: Cell) -> None:
    lab.make(cell)
    helpers = [threading.Thread(target=lab.help, args=(cell,)) for _ in range(2)]
    for helper in helpers:
        helper.start()
    try:
        lab.run(cell)
    finally:
        for helper in helpers:
            helper.join()
    assert same(lab, alone, cell)
    lab.store.sweep()  # as the next run does: a helper may have been the last
    assert lab.left_over == []


@pytest.mark.usefixtures("every_split_is_kept")
def test_a_try_that_dies_loses_no_split(lab: Lab, alone: Lab, cell: Cell) -> None:
    run_until_ten_are_kept(lab, cell)
    assert len(lab.scored) == 10
    first = list(lab.scored)
    lab.scored.clear()
    lab.run(cell, attempt=2)
    assert not set(lab.scored) & set(first)
    assert len(lab.scored) == N_SPLITS - 10
    assert same(lab, alone, cell)
    assert lab.left_over == []


@pytest.mark.parametrize(
    "column", ["dataset_digest", "transform_digest", "weights_digest", "device", "torch_version"]
)
def test_a_row_that_was_made_of_something_else_is_not_taken(
    lab: Lab, cell: Cell, column: str
) -> None:
    lab.make(cell)
    lab.help(cell)
    kept = ScoredSplits(lab.store.storage, cell.cell_id)
    kept.look()
    row = kept.find(("v2", 0))
    assert row is not None
    kept.keep([(("v2", 0), {**row, column: "another"})])
    lab.scored.clear()
    lab.run(cell)
    assert lab.scored == ["val/None x1", "v2/None x1"]


def test_rows_that_are_damaged_are_made_again(lab: Lab, alone: Lab, cell: Cell) -> None:
    lab.make(cell)
    lab.help(cell)
    files = [name for name in lab.left_over if name.endswith(".rows")]
    for number, name in enumerate(sorted(files)):
        path = Path(lab.store.storage.path(name))
        data = bytearray(path.read_bytes())
        if number % 3 == 0:
            data = data[: len(data) // 2]
        elif number % 3 == 1:
            data[len(data) // 2] ^= 1
        path.write_bytes(data)
    lab.scored.clear()
    lab.run(cell)
    assert len(lab.scored) > N_SPLITS // 2
    assert same(lab, alone, cell)


def test_a_split_that_a_helper_has_begun_is_waited_for(lab: Lab, cell: Cell) -> None:
    """The helper's last split takes it two seconds; its worker does not score it as well."""
    lab.make(cell)
    lab.help(cell)
    kept = ScoredSplits(lab.store.storage, cell.cell_id)
    kept.look()
    last = ("c", 39)
    row = kept.find(last)
    assert row is not None
    lab.store.storage.delete(f"{FOLDER}/{cell.cell_id}/c.0039.rows")

    def finish() -> None:
        time.sleep(2)
        ScoredSplits(lab.store.storage, cell.cell_id).keep([(last, row)])

    helper = threading.Thread(target=finish)
    lab.scored.clear()
    # A try withdraws the claims that it finds; this one counts as made afterwards.
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ScoredSplits, "withdraw", lambda self: None)
        helper.start()
        lab.run(cell)
    helper.join()
    assert lab.scored == ["val/None x1"]


def test_a_helper_that_died_is_not_waited_for_without_end(
    lab: Lab, alone: Lab, cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(set_scores, "LEAST_PATIENCE_S", 0.5)
    lab.make(cell)
    kept = ScoredSplits(lab.store.storage, cell.cell_id)
    kept.claim(("c", 39), "cpu")
    kept.claim(("c", 38), "another kind of GPU")
    monkeypatch.setattr(ScoredSplits, "withdraw", lambda self: None)
    lab.run(cell)
    assert len(lab.scored) == N_SPLITS
    assert same(lab, alone, cell)


def test_claims_of_an_earlier_try_are_withdrawn(
    lab: Lab, cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(set_scores, "LEAST_PATIENCE_S", 60.0)
    lab.make(cell)
    kept = ScoredSplits(lab.store.storage, cell.cell_id)
    kept.claim(("v2", 0), "cpu")
    started = time.monotonic()
    lab.run(cell)
    assert time.monotonic() - started < set_scores.LEAST_PATIENCE_S
    assert lab.left_over == []


def test_no_help_without_weights_or_for_predictions(lab: Lab, cell: Cell) -> None:
    assert lab.help(cell) == 0
    lab.make(cell)
    lab.site = replace(lab.site, predictions=("v2", "c"))
    assert lab.help(cell) == 0
    assert lab.scored == []


def test_a_helper_that_fails_says_so_and_changes_nothing(lab: Lab, cell: Cell) -> None:
    lab.make(cell)
    path = Path(lab.store.storage.path(f"artifacts/{cell.cell_id}/{CHECKPOINT}"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    outcome = help_out(Job(cell, SETS, helps=True), lab.site)
    assert outcome.error is not None
    assert "cut short" in outcome.message or "lost" in outcome.message.lower()
    assert lab.store.scan("attempts").table.num_rows == 1  # of `make`
    lab.run(cell)


def test_models_in_one_pass_get_the_rows_that_each_gets_alone(
    digits_root: Path, lab: Lab, alone: Lab
) -> None:
    model = embedded_model("vit_digits", digits_root)
    soup = cell_of("soup", model, members=("pretrained", "ft"))
    blends = [cell_of("wise-ft", model, alpha=alpha) for alpha in (0.25, 0.75)]
    for one in (soup, *blends):
        lab.make(one)
    lab.scored.clear()
    lab.run(soup, attempt=2, along=tuple(blends))
    assert len(lab.scored) == N_SPLITS
    assert all(shown.endswith("x3") for shown in lab.scored)
    lab.scored.clear()
    for blend in blends:
        lab.run(blend, attempt=2)
    assert lab.scored == []
    assert lab.left_over == []
    for one in (soup, *blends):
        assert same(lab, alone, one)


def test_a_model_that_cannot_be_made_is_left_out(digits_root: Path, lab: Lab) -> None:
    model = embedded_model("vit_digits", digits_root)
    soup = cell_of("soup", model, members=("pretrained", "ft"))
    lab.make(soup)
    broken = replace(cell_of("wise-ft", model), model=replace(model, architecture="no_such_vit"))
    lab.scored.clear()
    lab.run(soup, attempt=2, along=(broken,))
    assert lab.scored[0].endswith("x1")


def test_a_baseline_can_be_helped_from_the_start(digits_root: Path, lab: Lab, alone: Lab) -> None:
    baseline = cell_of("pretrained", embedded_model("resnet_digits", digits_root))
    assert lab.help(baseline) == N_SPLITS - 1
    lab.run(baseline)
    assert same(lab, alone, baseline)


def test_a_helper_never_trains(lab: Lab, cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint goes, since its cell is done, while the helper begins."""
    lab.make(cell)
    has = Store.has_checkpoint

    def deletes(self: Store, cell_id: str) -> bool:
        found = has(self, cell_id)
        self.storage.delete(f"artifacts/{cell_id}/{CHECKPOINT}")
        return found

    monkeypatch.setattr(Store, "has_checkpoint", deletes)
    outcome = help_out(Job(cell, SETS, helps=True), lab.site)
    assert outcome.error is ErrorKind.BUG
    assert "it is not there" in outcome.message
    assert not lab.store.storage.exists(f"artifacts/{cell.cell_id}/{CHECKPOINT}")


H100, ANOTHER_H100, A100 = "GPU-1 NVIDIA H100", "GPU-2 NVIDIA H100", "GPU-3 NVIDIA A100"


@pytest.mark.parametrize(("device", "taken"), [(H100, True), (ANOTHER_H100, True), (A100, False)])
def test_rows_are_taken_from_other_gpus_of_the_same_kind(
    lab: Lab, cell: Cell, monkeypatch: pytest.MonkeyPatch, device: str, taken: bool
) -> None:
    """A helper never has the GPU of the worker that it helps."""
    lab.make(cell)
    monkeypatch.setattr("workers.provenance.gpu_in_use", lambda: device)
    lab.help(cell)
    kept = ScoredSplits(lab.store.storage, cell.cell_id)
    assert kept.claimed_on(("c", 39)) == device.partition(" ")[2]
    monkeypatch.setattr("workers.provenance.gpu_in_use", lambda: H100)
    lab.scored.clear()
    lab.run(cell)
    assert len(lab.scored) == (1 if taken else N_SPLITS)


def test_another_gpu_s_split_is_waited_for(
    lab: Lab, cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.provenance.gpu_in_use", lambda: H100)
    monkeypatch.setattr(set_scores, "LEAST_PATIENCE_S", 1.0)
    monkeypatch.setattr(ScoredSplits, "withdraw", lambda self: None)
    lab.make(cell)
    waited: list[object] = []
    is_claimed = ScoredSplits.is_claimed

    def noting(self: ScoredSplits, place: Place) -> bool:
        waited.append(place)
        return is_claimed(self, place)

    monkeypatch.setattr(ScoredSplits, "is_claimed", noting)
    for kind, waits in (("NVIDIA A100", False), ("NVIDIA H100", True)):
        waited.clear()
        ScoredSplits(lab.store.storage, cell.cell_id).claim(("c", 39), kind)
        lab.run(cell)
        assert bool(waited) == waits, kind
