"""The training loop: steps against plain PyTorch, micro-batches, divergence, repeatability."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from tests.workers.methods import (
    CLASSES,
    COLUMNS,
    CPU,
    TARGETS,
    MemorySource,
    PlainSGD,
    ToyBench,
    normalise,
    plain_cross_entropy,
    toy,
    toy_with_batchnorm,
)
from workers.errors import DivergedError
from workers.images import batch_indices
from workers.methods import FineTuning, methods
from workers.recipe import Recipe
from workers.scoring import Scorer
from workers.train import Step, Trainer

CLOSE = {"rtol": 1e-4, "atol": 1e-6}
RECIPE = Recipe(lr=0.1, warmup_steps=2, epochs=2, batch_size=8, precision="fp32")


def trainer(
    source: MemorySource, recipe: Recipe = RECIPE, seed: int = 5, micro_batches: int = 1
) -> Trainer:
    return Trainer(source, Scorer(CLASSES, CPU), normalise, recipe, CPU, seed, micro_batches)


def assert_same_weights(found: nn.Module, expected: nn.Module) -> None:
    for name, tensor in found.state_dict().items():
        torch.testing.assert_close(tensor, expected.state_dict()[name], **CLOSE)


def is_equal(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, b.state_dict()[name]) for name, x in a.state_dict().items())


# ---------------------------------------------------------------------------- the methods


def no_penalty(*_: object) -> torch.Tensor:
    return torch.zeros(())


def squared_distance(
    module: nn.Module, start: nn.Module, _: torch.Tensor, __: FineTuning
) -> torch.Tensor:
    pairs = zip(module.parameters(), start.parameters(), strict=True)
    return sum(((a - b.detach()) ** 2).sum() for a, b in pairs)


def weighted_distance(
    module: nn.Module, start: nn.Module, _: torch.Tensor, method: FineTuning
) -> torch.Tensor:
    return sum(  # the matrix itself is checked in methods/test_penalties.py
        (method.fisher[name] * (a - b.detach()) ** 2).sum()
        for (name, a), b in zip(module.named_parameters(), start.parameters(), strict=True)
    )


def kl_from_start(
    module: nn.Module, start: nn.Module, images: torch.Tensor, _: FineTuning
) -> torch.Tensor:
    log_p = (module(images)[:, COLUMNS] / 2).log_softmax(dim=1)
    p0 = (start(images)[:, COLUMNS] / 2).softmax(dim=1).detach()
    return (p0 * (p0.log() - log_p)).sum() / len(images)


@pytest.mark.parametrize(
    ("name", "extra"),
    [
        ("ft", no_penalty),
        ("l2sp", squared_distance),
        ("ewc", weighted_distance),
        ("lwf", kl_from_start),
    ],
)
def test_every_method_trains_as_a_plain_loop_would(
    name: str, extra: Callable[..., torch.Tensor]
) -> None:
    """Five steps: 21 images in batches of 8 are 8, 8, 5; two epochs, the last step left out."""
    start = toy(dtype=torch.float32)
    module, plain = copy.deepcopy(start), copy.deepcopy(start)
    kind = methods()[name]
    method = kind(kind.Config())
    assert isinstance(method, FineTuning)
    method.prepare(module, ToyBench(start))
    source = MemorySource()
    history = trainer(source).train(module, method.loss)
    assert [len(part) for part in source.asked] == [8, 8, 5, 8, 8, 5]

    reference = PlainSGD(plain, RECIPE.momentum)
    rates = [0.05, 0.1, *(0.1 * (1 + math.cos(math.pi * k / 4)) / 2 for k in range(4))]
    losses: list[float] = []
    for part, lr in zip(source.asked, rates, strict=True):
        images, labels = normalise(source.pixels[part]), source.labels[part]
        loss = plain_cross_entropy(plain, images, labels) + extra(plain, start, images, method)
        losses.append(float(loss.detach()) * len(part))
        reference.step(loss, lr)
    assert_same_weights(module, plain)
    assert not torch.allclose(plain[1].weight, start[1].weight, atol=1e-3)
    assert [record.loss for record in history] == pytest.approx(
        [sum(losses[:3]) / 21, sum(losses[3:]) / 21], rel=1e-5
    )
    assert [record.lr for record in history] == pytest.approx([rates[2], rates[5]])


def test_history_counts_what_was_right_as_the_weights_were_then() -> None:
    source, module = MemorySource(), toy(dtype=torch.float32)
    recipe = RECIPE.model_copy(update={"epochs": 1, "batch_size": 21})
    with torch.no_grad():
        predictions = module(normalise(source.pixels))[:, COLUMNS].argmax(dim=1).tolist()
    right = sum(p == TARGETS[y] for p, y in zip(predictions, source.labels.tolist(), strict=True))
    (record,) = trainer(source, recipe).train(module, Step.cross_entropy)
    assert (record.epoch, record.n_correct, record.n_total) == (1, right, 21)


def test_adamw_and_its_schedule_against_torch_s_own() -> None:
    recipe = Recipe(
        optimizer="adamw",
        lr=0.01,
        weight_decay=0.1,
        warmup_steps=3,
        epochs=3,
        batch_size=8,
        precision="fp32",
    )
    source, start = MemorySource(), toy(dtype=torch.float32)
    module, plain = copy.deepcopy(start), copy.deepcopy(start)
    trainer(source, recipe).train(module, Step.cross_entropy)
    optimizer = torch.optim.AdamW(plain.parameters(), lr=0.01, weight_decay=0.1)
    rise = LinearLR(optimizer, start_factor=1 / 3, end_factor=1.0, total_iters=2)
    fall = CosineAnnealingLR(optimizer, T_max=9 - 3)
    schedule = SequentialLR(optimizer, [rise, fall], milestones=[3])
    for part in source.asked:
        optimizer.zero_grad()
        plain_cross_entropy(plain, normalise(source.pixels[part]), source.labels[part]).backward()
        optimizer.step()
        schedule.step()
    assert_same_weights(module, plain)


def test_every_epoch_shows_every_image_once_in_another_order() -> None:
    source = MemorySource()
    trainer(source).train(toy(dtype=torch.float32), Step.cross_entropy)
    first, second = torch.cat(source.asked[:3]).tolist(), torch.cat(source.asked[3:]).tolist()
    assert sorted(first) == sorted(second) == list(range(21))
    assert first != second
    assert first != list(range(21))


def test_batchnorm_trains_and_what_is_frozen_does_not() -> None:
    start = toy_with_batchnorm(dtype=torch.float32)
    start[0].requires_grad_(False)
    module = copy.deepcopy(start)
    trainer(MemorySource()).train(module, Step.cross_entropy)
    assert int(module[1].num_batches_tracked) == 6
    assert not torch.equal(module[1].running_mean, start[1].running_mean)
    assert torch.equal(module[0].weight, start[0].weight)
    assert not torch.equal(module[4].weight, start[4].weight)


# ---------------------------------------------------------------------------- micro-batches


@pytest.mark.parametrize("micro_batches", [2, 3, 5, 64])
@pytest.mark.parametrize("name", ["ft", "l2sp", "lwf"])
def test_micro_batches_give_the_gradient_of_the_whole_batch(name: str, micro_batches: int) -> None:
    start = toy(dtype=torch.float32)
    results, records = [], []
    for parts in (1, micro_batches):
        module = copy.deepcopy(start)
        kind = methods()[name]
        method = kind(kind.Config())
        assert isinstance(method, FineTuning)
        method.prepare(module, ToyBench(start))
        records.append(trainer(MemorySource(), micro_batches=parts).train(module, method.loss))
        results.append(module)
    assert_same_weights(results[1], results[0])
    for whole, cut in zip(*records, strict=True):
        assert cut.loss == pytest.approx(whole.loss, rel=1e-5)
        assert (cut.n_correct, cut.n_total) == (whole.n_correct, whole.n_total)


def test_micro_batches_are_as_small_as_asked() -> None:
    sizes: list[int] = []

    def loss(step: Step) -> torch.Tensor:
        sizes.append(len(step.labels))
        return step.cross_entropy()

    recipe = RECIPE.model_copy(update={"epochs": 1})
    trainer(MemorySource(), recipe, micro_batches=3).train(toy(dtype=torch.float32), loss)
    assert sizes == [3, 3, 2, 3, 3, 2, 2, 2, 1]


# ---------------------------------------------------------------------------- divergence


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_not_finite_is_divergence(bad: float) -> None:
    def loss(step: Step) -> torch.Tensor:
        return step.cross_entropy() + (bad if 4 in step.indices.tolist() else 0.0)

    with pytest.raises(DivergedError, match="epoch 1"):
        trainer(MemorySource()).train(toy(dtype=torch.float32), loss)


def test_a_learning_rate_that_is_far_too_high_diverges() -> None:
    """Each step multiplies the distance from the start by 2 lr - 1: float32 ends at 3e38."""
    recipe = Recipe(lr=1e6, warmup_steps=0, epochs=3, batch_size=8, precision="fp32")
    module = toy(dtype=torch.float32)
    method = methods()["l2sp"](methods()["l2sp"].Config())
    assert isinstance(method, FineTuning)
    method.prepare(module, ToyBench(module))
    with pytest.raises(DivergedError, match="epoch 2"):
        trainer(MemorySource(), recipe).train(module, method.loss)


def test_weights_that_are_not_finite_after_the_last_step_are_divergence() -> None:
    """One step whose loss is finite and whose gradient overflows: the result is NaN weights."""
    recipe = Recipe(lr=1.0, warmup_steps=0, epochs=1, batch_size=21, precision="fp32")

    def loss(step: Step) -> torch.Tensor:
        weight = dict(step.module.named_parameters())["3.bias"]
        return step.cross_entropy() + (weight - weight.detach()).abs().sqrt().sum()

    with pytest.raises(DivergedError):
        trainer(MemorySource(), recipe).train(toy(dtype=torch.float32), loss)


# ---------------------------------------------------------------------------- repeatability


def with_dropout() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 16), nn.Dropout(0.5), nn.Linear(16, 6))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_the_same_seed_gives_the_same_weights_to_the_bit(precision: str) -> None:
    recipe = RECIPE.model_copy(update={"precision": precision})
    start, trained = with_dropout(), []
    for seed in (5, 5, 6):
        module = copy.deepcopy(start)
        torch.manual_seed(len(trained))  # what came before must not matter
        trainer(MemorySource(), recipe, seed).train(module, Step.cross_entropy)
        trained.append(module)
    assert is_equal(trained[0], trained[1])
    assert not is_equal(trained[0], trained[2])
    assert not is_equal(trained[0], start)


def test_low_precision_is_near_full_precision() -> None:
    results = {}
    for precision in ("fp32", "bf16", "fp16"):
        module = toy(dtype=torch.float32)
        recipe = RECIPE.model_copy(update={"precision": precision})
        trainer(MemorySource(), recipe).train(module, Step.cross_entropy)
        results[precision] = module[3].weight.detach()
        assert module[3].weight.dtype == torch.float32
    for precision in ("bf16", "fp16"):
        torch.testing.assert_close(results[precision], results["fp32"], rtol=0.05, atol=0.02)
        assert not torch.equal(results[precision], results["fp32"])


# ---------------------------------------------------------------------------- batches


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(1, 70), st.randoms(use_true_random=False))
def test_batches_never_drop_or_double_an_image(n: int, size: int, random: object) -> None:
    order = list(range(n))
    random.shuffle(order)
    parts = batch_indices(torch.tensor(order), size)
    assert torch.cat(parts).tolist() == order
    assert all(len(part) == size for part in parts[:-1])
    assert len(parts[-1]) <= size + 1
    if size > 1:
        assert len(parts) == 1 or len(parts[-1]) > 1


@pytest.mark.parametrize(
    ("n", "size", "sizes"),
    [(9, 4, [4, 5]), (8, 4, [4, 4]), (10, 4, [4, 4, 2]), (1, 4, [1]), (5, 4, [5]), (3, 4, [3])],
)
def test_a_last_single_image_joins_the_batch_before(n: int, size: int, sizes: list[int]) -> None:
    assert [len(part) for part in batch_indices(torch.arange(n), size)] == sizes
