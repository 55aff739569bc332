"""What every registered method has to keep: configs, rows, repeatability, checkpoints."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import timm
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from tests import embedded
from workers.bench import Bench
from workers.cell import BASELINE, Cell, Model
from workers.digests import file_digest
from workers.job import Job, Site
from workers.methods import FineTuning, MethodConfig, methods
from workers.outcome import Outcome
from workers.recipe import Recipe
from workers.run import execute
from workers.suites import suites
from workers.train import Trainer
from workers.training_run import TrainingRun

EVERY_METHOD = sorted(methods())
EVALUATE = ("val", "a")
N_IMAGES = {"val": 200, "a": 84}
RECIPE = Recipe(lr=1e-2, warmup_steps=2, epochs=1, batch_size=32, precision="fp32", holdout=0.25)
N_HELD_OUT = 6 * 4
"""A quarter of the 14 images of each of six classes, rounded."""
PER_RUN = {"started_at", "finished_at", "attempt"}
"""Columns that tell of a run, not of its cell."""


def cell_of(name: str, model: Model, **hyperparameters: Any) -> Cell:
    """The cell that a grid would make of a method on `a`, with its parents."""
    return embedded.cell_of(name, model, RECIPE, **hyperparameters)


@dataclass
class Lab:
    """Runs cells on the real suite, each with the parents that it needs."""

    data_root: Path
    store: Path

    def run(self, cell: Cell, evaluate: tuple[str, ...] = EVALUATE, micro_batches: int = 1) -> int:
        """Execute a cell and return how many rows it committed."""
        self.run_parents(cell)
        outcome = self.attempt(cell, evaluate, micro_batches)
        assert outcome.ok, f"{outcome.message}\n{outcome.traceback}"
        assert outcome.recorded
        return outcome.rows

    def run_parents(self, cell: Cell) -> None:
        """Train what a cell is made from."""
        for parent in cell.parents:
            if not parent.is_baseline and not self.checkpoint(parent).exists():
                self.run(parent, evaluate=())

    def attempt(
        self, cell: Cell, evaluate: tuple[str, ...] = (), micro_batches: int = 1
    ) -> Outcome:
        """Try a cell once, saving its training state after every epoch."""
        site = Site(str(self.store), str(self.data_root), state_seconds=0)
        return execute(Job(cell, evaluate, micro_batches=micro_batches), site)

    def rows(self, cell: Cell) -> dict[str, Mapping[str, Any]]:
        """Evaluation set -> row, without what differs between runs. Reads plain Parquet files."""
        files = sorted((self.store / "accuracy").glob(f"{cell.cell_id}.*"))
        found = [row for file in files for row in pq.read_table(file).to_pylist()]
        return {row["eval_dataset"]: {k: row[k] for k in row.keys() - PER_RUN} for row in found}

    def checkpoint(self, cell: Cell) -> Path:
        return self.store / "artifacts" / cell.cell_id / "model.safetensors"


@pytest.fixture(scope="module")
def model(digits_root: Path) -> Model:
    (found,) = (m for m in suites()["digits-rib"].models if m.name == "resnet_digits")
    return replace(found, weights=file_digest(digits_root / str(found.file)))


@pytest.fixture(scope="module")
def lab(digits_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    threads = torch.get_num_threads()
    yield Lab(digits_root, tmp_path_factory.mktemp("store"))
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def other_lab(digits_root: Path, tmp_path: Path) -> Lab:
    return Lab(digits_root, tmp_path / "other store")


PAIRS = list(embedded.fitting_pairs())


def test_every_method_fits_some_model() -> None:
    assert {name for name, _ in PAIRS} == set(EVERY_METHOD)


@pytest.fixture(params=PAIRS, ids=lambda pair: f"{pair[0]}-{pair[1].name}")
def cell(request: pytest.FixtureRequest, digits_root: Path, lab: Lab) -> Cell:
    """A cell of every method, executed in `lab`."""
    name, model = request.param
    made = cell_of(name, replace(model, weights=file_digest(digits_root / str(model.file))))
    if not lab.rows(made):
        assert lab.run(made) == len(EVALUATE)
    return made


# ---------------------------------------------------------------------------- declarations


@pytest.mark.parametrize("name", EVERY_METHOD)
def test_the_config_has_defaults_and_is_frozen(name: str) -> None:
    kind = methods()[name]
    assert kind.name == name
    assert isinstance(kind.version, int)
    assert kind.version >= 1
    assert issubclass(kind.Config, MethodConfig)
    config = kind.Config()
    dumped = json.loads(json.dumps(config.model_dump(mode="json"), allow_nan=False))
    assert kind.Config.model_validate(dumped) == config
    assert hash(config) == hash(kind.Config())
    for field in kind.Config.model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(config, field, getattr(config, field))


@pytest.mark.parametrize("name", EVERY_METHOD)
def test_an_unknown_hyperparameter_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="no_such_hyperparameter"):
        methods()[name].Config.model_validate({"no_such_hyperparameter": 1})


@pytest.mark.parametrize("name", EVERY_METHOD)
def test_every_hyperparameter_is_described_and_refuses_nonsense(name: str) -> None:
    kind = methods()[name]
    for field, info in kind.Config.model_fields.items():
        assert info.description, f"{name}.{field} has no description"
        for nonsense in (float("nan"), float("inf"), object(), [[]]):
            with pytest.raises(ValidationError):
                kind.Config.model_validate({field: nonsense})


@pytest.mark.parametrize("name", EVERY_METHOD)
def test_it_starts_from_methods_that_exist(name: str) -> None:
    kind = methods()[name]
    parents = kind.starts_from(kind.Config())
    assert set(parents) <= set(EVERY_METHOD) - {name}
    assert len(set(parents)) == len(parents)


@pytest.mark.parametrize("name", EVERY_METHOD)
def test_training_and_its_cost_go_together(name: str) -> None:
    kind = methods()[name]
    assert kind.trains == (kind.relative_cost > 0)
    assert kind.trains or not issubclass(kind, FineTuning)


# ---------------------------------------------------------------------------- a real run


def test_rows_have_the_right_counts(cell: Cell, lab: Lab) -> None:
    rows = lab.rows(cell)
    assert set(rows) == set(EVALUATE)
    for name, row in rows.items():
        assert row["n_total"] == row["n_expected"] == N_IMAGES[name]
        assert 0 <= row["n_correct_unmasked"] <= row["n_correct"] <= N_IMAGES[name]
        if methods()[cell.method].keeps_architecture:  # a fresh prompt is noise to begin with
            assert row["n_correct"] > 0.3 * N_IMAGES[name]  # it has not been broken
        assert 0 <= row["loss"] < float("inf")
        assert row["cell_id"] == cell.cell_id
        assert (row["method"], row["downstream"]) == (cell.method, cell.downstream)
        assert json.loads(row["hyperparameters"]) == cell.hyperparameters
        assert row["corruption"] is None
        assert row["severity"] is None
        assert row["epoch"] is None
    val = rows["val"]
    assert val["n_correct"] == val["n_correct_unmasked"]  # it has every class: nothing is masked


def test_the_baseline_is_as_good_as_the_suite_says(model: Model, lab: Lab) -> None:
    baseline = cell_of(BASELINE, model)
    if not lab.rows(baseline):
        lab.run(baseline)
    assert lab.rows(baseline)["val"]["n_correct"] >= 0.95 * 200


def test_a_second_run_gives_the_same_rows(cell: Cell, lab: Lab, other_lab: Lab) -> None:
    torch.manual_seed(123)
    torch.rand(7)
    assert other_lab.run(cell) == len(EVALUATE)
    assert other_lab.rows(cell) == lab.rows(cell)
    if not cell.is_baseline:
        first, second = (load_file(each.checkpoint(cell)) for each in (lab, other_lab))
        assert all(torch.equal(second[name], tensor) for name, tensor in first.items())


def test_what_an_earlier_try_left_is_taken_up(cell: Cell, lab: Lab, other_lab: Lab) -> None:
    """One evaluation set a try: the second try trains nothing, and the rows are the same."""
    other_lab.run(cell, evaluate=("a",))
    trained = None if cell.is_baseline else other_lab.checkpoint(cell).stat().st_mtime_ns
    for file in (other_lab.store / "history").glob("*.parquet"):
        file.unlink()
    other_lab.run(cell, evaluate=("val",))
    assert other_lab.rows(cell) == lab.rows(cell)
    if not cell.is_baseline:
        assert other_lab.checkpoint(cell).stat().st_mtime_ns == trained
    assert list((other_lab.store / "history").glob("*.parquet")) == []


def test_the_checkpoint_loads_into_a_fresh_timm_model(
    cell: Cell, lab: Lab, digits_root: Path
) -> None:
    start = load_file(digits_root / str(cell.model.file))
    if cell.is_baseline:
        assert not lab.checkpoint(cell).exists()  # a baseline is its own weights file
        return
    state = load_file(lab.checkpoint(cell))
    if not methods()[cell.method].keeps_architecture:
        pytest.skip("adds to the architecture")
    module = timm.create_model(cell.model.architecture, **cell.model.arguments)
    module.load_state_dict(state)
    assert state.keys() == start.keys()
    assert all(torch.isfinite(tensor).all() for tensor in state.values())
    assert any(not torch.equal(tensor, start[name]) for name, tensor in state.items())


def test_training_is_in_the_history(cell: Cell, lab: Lab) -> None:
    file = lab.store / "history" / f"{cell.cell_id}.parquet"
    assert file.exists() == methods()[cell.method].trains
    if file.exists():
        (record,) = pq.read_table(file).to_pylist()
        assert (record["epoch"], record["n_total"]) == (1, 84 - N_HELD_OUT)
        # 60 images in batches of 32 are two steps, both of warm-up: the second is at the peak.
        assert record["lr"] == pytest.approx(getattr(methods()[cell.method].Config(), "lr", 1e-2))


FOR_A_SHORT_RUN: dict[str, dict[str, Any]] = {
    "ema": {"decay": 0.9},
    "lora": {"alpha": 16.0},
    "visual-prompt": {"lr": 1.0},
}
"""Where a method's defaults are for longer training than a test has time for."""


@pytest.mark.slow
def test_training_raises_accuracy_on_the_downstream_set(cell: Cell, other_lab: Lab) -> None:
    kind = methods()[cell.method]
    if not kind.trains:
        pytest.skip("trains nothing")
    recipe = RECIPE.model_copy(update={"epochs": 4, "holdout": 0.0})
    config = kind.Config.model_validate(FOR_A_SHORT_RUN.get(cell.method, {}))
    parents = tuple(replace(p, downstream="drawing") for p in cell.parents)
    longer = replace(
        cell,
        downstream="drawing",
        recipe=recipe.model_dump(mode="json"),
        hyperparameters=config.model_dump(mode="json"),
        parents=parents,
    )
    baseline = cell_of(BASELINE, cell.model)
    for made in (baseline, longer):
        other_lab.run(made, evaluate=("drawing",))
    before, after = (other_lab.rows(made)["drawing"] for made in (baseline, longer))
    assert after["n_correct"] >= before["n_correct"] + 20
    assert after["loss"] < before["loss"]


@pytest.mark.slow
@pytest.mark.parametrize("damage", [False, True], ids=["whole", "last state cut short"])
def test_training_goes_on_where_a_killed_try_left_it(
    cell: Cell, damage: bool, lab: Lab, other_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the second epoch of three: the third alone is run, or two if it was damaged."""
    if not methods()[cell.method].trains:
        pytest.skip("trains nothing")
    recipe = RECIPE.model_copy(update={"epochs": 3})
    longer = replace(cell, recipe=recipe.model_dump(mode="json"))
    if not lab.checkpoint(longer).exists():
        lab.run(longer, evaluate=())
    other_lab.run_parents(longer)
    folder = other_lab.checkpoint(longer).parent

    def die_after_two(bench: Bench, run: TrainingRun, objective: FineTuning) -> None:
        keep(bench, run, objective)
        if run.epochs_done == 2:
            raise RuntimeError("killed")

    keep = Bench._keep
    with monkeypatch.context() as patch:
        patch.setattr(Bench, "_keep", die_after_two)
        assert "killed" in other_lab.attempt(longer).message
    states = sorted(folder.glob("training.*"))
    assert [path.name.split(".")[1] for path in states] == ["00001", "00002"]
    if damage:
        states[-1].write_bytes(states[-1].read_bytes()[:-7])

    epochs: list[int] = []
    epoch = Trainer._epoch
    with monkeypatch.context() as patch:
        patch.setattr(
            Trainer, "_epoch", lambda *a: epochs.append(a[1].epochs_done + 1) or epoch(*a)
        )
        assert other_lab.attempt(longer).ok
    assert epochs == ([2, 3] if damage else [3])
    undisturbed, resumed = (load_file(each.checkpoint(longer)) for each in (lab, other_lab))
    assert all(torch.equal(resumed[name], tensor) for name, tensor in undisturbed.items())
    assert list(folder.glob("training.*")) == []
    file = other_lab.store / "history" / f"{longer.cell_id}.parquet"
    assert [row["epoch"] for row in pq.read_table(file).to_pylist()] == [1, 2, 3]


MAY_CHANGE = {
    "lp": ("fc.*", "head.*"),
    "lora": ("blocks.*.attn.qkv.*",),
    "surgical": ("layer1.*", "blocks.0.*"),
    "visual-prompt": ("prompt",),
}
"""What the methods that freeze most of a model may touch."""


def test_what_is_frozen_stays_equal_to_the_bit(cell: Cell, lab: Lab, digits_root: Path) -> None:
    if cell.method not in MAY_CHANGE:
        pytest.skip("freezes nothing")
    start = load_file(digits_root / str(cell.model.file))
    changed = 0
    for name, tensor in load_file(lab.checkpoint(cell)).items():
        if any(fnmatchcase(name, pattern) for pattern in MAY_CHANGE[cell.method]):
            changed += name not in start or not torch.equal(tensor, start[name])
        else:
            assert torch.equal(tensor, start[name.removeprefix("model.")]), name
    assert changed


def test_another_seed_and_other_hyperparameters_give_other_weights(model: Model, lab: Lab) -> None:
    cells = [
        cell_of("l2sp", model),
        replace(cell_of("l2sp", model), seed=1),
        cell_of("l2sp", model, strength=3.0),
    ]
    for made in cells:
        if not lab.checkpoint(made).exists():
            lab.run(made, evaluate=())
    heads = [load_file(lab.checkpoint(made))["fc.weight"] for made in cells]
    assert not torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_a_soup_is_the_mean_of_the_checkpoints_it_names(
    model: Model, lab: Lab, digits_root: Path
) -> None:
    soup = cell_of("soup", model)
    if not lab.checkpoint(soup).exists():
        lab.run(soup)
    members = [load_file(digits_root / str(model.file))]
    members += [load_file(lab.checkpoint(cell_of(name, model))) for name in ("ft", "ewc", "lwf")]
    for name, tensor in load_file(lab.checkpoint(soup)).items():
        if tensor.is_floating_point():
            expected = torch.stack([member[name].double() for member in members]).mean(dim=0)
            torch.testing.assert_close(tensor, expected.float(), rtol=0, atol=0)
        else:
            assert torch.equal(tensor, members[0][name])
