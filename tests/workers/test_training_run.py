"""Training that is cut off between epochs and taken up again ends as if it had not been."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.workers.methods import CLASSES, CPU, N_LABELS, MemorySource, normalise
from workers.recipe import Recipe
from workers.scoring import Scorer
from workers.store import Store
from workers.train import Step, Trainer
from workers.training_run import TrainingRun
from workers.training_state import TrainingState, TrainingStates, unpack

RECIPE = Recipe(lr=0.05, warmup_steps=2, epochs=4, batch_size=8, precision="fp32")


def network() -> nn.Module:
    """Dropout draws from the global generator, BatchNorm has buffers, one of them an integer."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(16, N_LABELS),
    )


def trainer(recipe: Recipe, states: list[TrainingState], start: TrainingState | None) -> Trainer:
    return Trainer(
        MemorySource(),
        Scorer(CLASSES, CPU),
        normalise,
        recipe,
        CPU,
        seed=5,
        held_out=MemorySource(n=9),
        before_first_epoch=lambda run: None if start is None else run.restore(start),
        after_epoch=lambda run: states.append(run.capture({})),
    )


@pytest.mark.parametrize("after", [1, 3])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": "adamw", "weight_decay": 0.1},
        {"momentum": 0.0},
        {"precision": "bf16", "clip_grad": 0.5},
        {"holdout": 0.2, "patience": 1, "epochs": 8},
    ],
    ids=lambda changes: ",".join(changes) or "sgd",
)
def test_a_run_that_was_cut_off_ends_as_one_that_was_not(
    changes: dict[str, object], after: int
) -> None:
    recipe = RECIPE.model_copy(update=changes)
    whole, states = network(), []
    records = trainer(recipe, states, None).train(whole, Step.cross_entropy)
    if after >= len(states):
        pytest.skip("it was over by then")
    torch.rand(13)  # the generator is elsewhere by now
    again = network()
    kept = unpack(states[after - 1].pack())
    resumed = trainer(recipe, [], kept).train(again, Step.cross_entropy)
    assert [r.epoch for r in resumed] == [r.epoch for r in records]
    assert [r.loss for r in resumed] == [r.loss for r in records]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_the_loss_scale_of_half_precision_is_kept() -> None:
    module = network()
    run = TrainingRun(
        module,
        torch.optim.SGD(module.parameters(), lr=0.1),
        torch.amp.GradScaler("cpu", init_scale=8.0, enabled=True),
        torch.Generator(),
    )
    run.scaler.scale(torch.zeros(()))  # it makes its scale when it is first used
    state = unpack(run.capture({}).pack())
    run.scaler = torch.amp.GradScaler("cpu", init_scale=2.0, enabled=True)
    run.restore(state)
    assert run.scaler.get_scale() == 8.0


def state(epoch: int) -> TrainingState:
    tensors = {"module.w": torch.full((3,), float(epoch)), "method.w": torch.ones(2)}
    return TrainingState(epoch, tensors, {"records": [epoch]})


def test_the_last_two_states_are_kept(tmp_path: Path) -> None:
    states = TrainingStates(Store(str(tmp_path)), "cell")
    assert states.latest() is None
    for epoch in (1, 2, 3):
        states.save(state(epoch))
    files = sorted((tmp_path / "artifacts" / "cell").iterdir())
    assert [path.name.split(".")[1] for path in files] == ["00002", "00003"]
    latest = states.latest()
    assert latest is not None
    assert (latest.epoch, latest.facts) == (3, {"records": [3]})
    assert torch.equal(latest.part("module")["w"], torch.full((3,), 3.0))
    states.clear()
    assert list((tmp_path / "artifacts" / "cell").iterdir()) == []


@pytest.mark.parametrize("damage", ["cut", "bit", "empty"])
def test_a_damaged_state_is_passed_over(tmp_path: Path, damage: str) -> None:
    states = TrainingStates(Store(str(tmp_path)), "cell")
    for epoch in (1, 2):
        states.save(state(epoch))
    last = max((tmp_path / "artifacts" / "cell").iterdir())
    data = bytearray(last.read_bytes())
    data[-1] ^= 1
    last.write_bytes({"cut": data[:-9], "bit": data, "empty": b""}[damage])
    latest = states.latest()
    assert latest is not None
    assert latest.epoch == 1


def test_states_are_saved_no_more_often_than_asked(tmp_path: Path) -> None:
    assert TrainingStates(Store(str(tmp_path)), "cell").is_due
    assert not TrainingStates(Store(str(tmp_path)), "cell", seconds_between=3600).is_due


def test_capturing_copies(tmp_path: Path) -> None:
    module = network()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    run = TrainingRun(
        module, optimizer, torch.amp.GradScaler("cpu", enabled=False), torch.Generator()
    )
    captured = run.capture({})
    before = copy.deepcopy(captured.tensors)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1)
    assert all(torch.equal(before[name], tensor) for name, tensor in captured.tensors.items())
