"""What a recipe's options do in training: clipping, smoothing, layers' scales, early stopping."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import timm
import torch
from torch import nn

from tests.embedded import FAST, bench_of, cell_of, images_of
from tests.embedded import made as made_cell
from tests.workers.methods import (
    CLASSES,
    COLUMNS,
    CPU,
    TARGETS,
    MemorySource,
    PlainSGD,
    normalise,
    normalise64,
    plain_cross_entropy,
    toy,
)
from workers.cell import Model
from workers.methods import FineTuning, MethodConfig
from workers.recipe import Recipe
from workers.scoring import Scorer
from workers.train import Step, Trainer

RECIPE = Recipe(lr=0.1, warmup_steps=2, epochs=2, batch_size=8, precision="fp32")


def trainer(source: MemorySource, recipe: Recipe, micro_batches: int = 1) -> Trainer:
    return Trainer(source, Scorer(CLASSES, CPU), normalise, recipe, CPU, 5, micro_batches)


def one_step(recipe: Recipe, start: nn.Module, micro_batches: int = 1) -> nn.Module:
    """Train a copy by one step of plain gradient descent over all images at once."""
    settings = {"epochs": 1, "batch_size": 21, "momentum": 0.0, "schedule": "constant"}
    module = copy.deepcopy(start)
    whole = recipe.model_copy(update={"warmup_steps": 0, **settings})
    made = replace(
        trainer(MemorySource(), whole, micro_batches=micro_batches), normalise=as_of(start)
    )
    made.train(module, Step.cross_entropy)
    return module


def as_of(module: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    dtype = next(module.parameters()).dtype
    return lambda pixels: normalise64(pixels).to(dtype)


def changes(module: nn.Module, start: nn.Module) -> list[torch.Tensor]:
    pairs = zip(module.parameters(), start.parameters(), strict=True)
    return [(a - b).detach() for a, b in pairs]


def norm(tensors: Iterable[torch.Tensor]) -> float:
    return math.sqrt(sum(float((t.double() ** 2).sum()) for t in tensors))


def plain_gradients(module: nn.Module, smoothing: float = 0.0) -> list[torch.Tensor]:
    source = MemorySource()
    log_p = module(as_of(module)(source.pixels))[:, COLUMNS].log_softmax(dim=1)
    right = log_p[torch.arange(21), torch.tensor(TARGETS)[source.labels]]
    loss = -((1 - smoothing) * right + smoothing * log_p.mean(dim=1)).mean()
    return list(torch.autograd.grad(loss, list(module.parameters())))


@pytest.mark.parametrize("part", [0.25, 4.0])
@pytest.mark.parametrize("micro_batches", [1, 4])
def test_a_gradient_above_the_limit_is_scaled_to_it(part: float, micro_batches: int) -> None:
    start = toy()
    gradients = plain_gradients(start)
    limit = part * norm(gradients)
    recipe = RECIPE.model_copy(update={"clip_grad": limit})
    found = changes(one_step(recipe, start, micro_batches), start)
    scale = min(1.0, part)
    for change, gradient in zip(found, gradients, strict=True):
        torch.testing.assert_close(change, -0.1 * scale * gradient, rtol=1e-4, atol=1e-7)
    assert norm(found) == pytest.approx(0.1 * scale * norm(gradients), rel=1e-4)


def test_in_half_precision_the_limit_is_for_the_gradient_and_not_for_its_scaled_copy() -> None:
    """The gradient scaler multiplies by 65536: clipped before it divides, nothing would move."""
    start = toy(dtype=torch.float32)
    limit = 0.25 * norm(plain_gradients(start))
    recipe = RECIPE.model_copy(update={"clip_grad": limit, "precision": "fp16"})
    found = changes(one_step(recipe, start), start)
    assert norm(found) == pytest.approx(0.1 * limit, rel=1e-3)


def test_labels_are_smoothed_in_training() -> None:
    start = toy()
    recipe = RECIPE.model_copy(update={"label_smoothing": 0.3})
    found = changes(one_step(recipe, start), start)
    for change, gradient in zip(found, plain_gradients(start, smoothing=0.3), strict=True):
        torch.testing.assert_close(change, -0.1 * gradient, rtol=1e-4, atol=1e-7)
    assert abs(norm(found) / (0.1 * norm(plain_gradients(start))) - 1) > 0.01


def test_layers_move_at_their_scale() -> None:
    """Each layer by lr * decay ** (layers after it) times its gradient.

    timm counts a ViT's last norm to its last block.
    """
    torch.manual_seed(0)
    start: nn.Module = timm.create_model(
        "vit_tiny_patch16_224",
        img_size=4,
        patch_size=2,
        embed_dim=12,
        depth=2,
        num_heads=2,
        num_classes=6,
    ).double()
    recipe = RECIPE.model_copy(update={"layer_decay": 0.5})
    found = changes(one_step(recipe, start), start)
    layers = {"blocks.0": 1, "blocks.1": 2, "norm": 2, "head": 3}
    names = [name for name, _ in start.named_parameters()]
    for name, change, gradient in zip(names, found, plain_gradients(start), strict=True):
        layer = next((n for key, n in layers.items() if name.startswith(key)), 0)
        expected = -0.1 * 0.5 ** (3 - layer) * gradient
        torch.testing.assert_close(change, expected, rtol=1e-3, atol=1e-7, msg=name)


def test_a_warm_up_by_epochs_and_a_linear_decay() -> None:
    """21 images in batches of 8 are 3 steps: 3 of warm-up, and 6 in which lr falls to 0."""
    recipe = RECIPE.model_copy(update={"warmup_epochs": 1.0, "schedule": "linear", "epochs": 3})
    source, start = MemorySource(), toy(dtype=torch.float32)
    module, plain = copy.deepcopy(start), copy.deepcopy(start)
    history = trainer(source, recipe).train(module, Step.cross_entropy)
    rates = [0.1 * k / 3 for k in (1, 2, 3)] + [0.1 * (1 - k / 6) for k in range(6)]
    reference = PlainSGD(plain, recipe.momentum)
    for part, lr in zip(source.asked, rates, strict=True):
        images, labels = normalise(source.pixels[part]), source.labels[part]
        reference.step(plain_cross_entropy(plain, images, labels), lr)
    for found, expected in zip(module.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert [record.lr for record in history] == pytest.approx([rates[2], rates[5], rates[8]])


# ---------------------------------------------------------------------------- early stopping


class Scripted(nn.Module):
    """A model that is right on as many held-out images after an epoch as a script says."""

    def __init__(self, script: list[int]) -> None:
        super().__init__()
        self.script = script
        self.epoch = nn.Parameter(torch.zeros(()))  # raised by one with each step
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.seen += 1
            return torch.zeros(len(images), 6) + 0 * self.epoch
        n_right = self.script[round(float(self.epoch)) - 1]
        wrong = torch.arange(len(images)) >= n_right
        return torch.eye(6)[torch.where(wrong, 1, 4)]  # label 4 is the first class's


@pytest.mark.parametrize(
    ("script", "patience", "epochs", "best"),
    [
        ([3, 5, 5, 4, 5, 9], 3, 5, 2),  # equals are no better: the first of them is the best
        ([3, 5, 5, 4, 5, 9], 4, 6, 6),
        ([1, 2, 3, 4, 5, 6], 1, 6, 6),
        ([4, 3, 5, 6, 7, 8], 1, 2, 1),
        ([0, 0, 0, 0, 0, 0], 2, 3, 1),
    ],
)
def test_training_stops_when_nothing_gets_better_and_gives_back_the_best(
    script: list[int], patience: int, epochs: int, best: int
) -> None:
    held_out = MemorySource(n=10)
    held_out.labels.zero_()
    recipe = Recipe(
        lr=1.0,
        momentum=0.0,
        schedule="constant",
        warmup_steps=0,
        epochs=6,
        batch_size=21,
        precision="fp32",
        holdout=0.3,
        patience=patience,
    )
    module = Scripted(script)
    made = replace(trainer(MemorySource(), recipe), held_out=held_out)
    history = made.train(module, lambda step: -step.module.epoch)
    assert [record.epoch for record in history] == list(range(1, epochs + 1))
    found = [(record.held_out_correct, record.held_out_total) for record in history]
    assert found == [(n, 10) for n in script[:epochs]]
    assert float(module.epoch.detach()) == best
    assert int(module.seen) == best  # buffers go back, too


def test_without_patience_held_out_images_are_not_looked_at() -> None:
    held_out = MemorySource(n=10)
    recipe = RECIPE.model_copy(update={"holdout": 0.3})
    made = replace(trainer(MemorySource(), recipe), held_out=held_out)
    history = made.train(toy(dtype=torch.float32), Step.cross_entropy)
    assert held_out.asked == []
    assert {(r.held_out_correct, r.held_out_total) for r in history} == {(None, None)}


def test_a_cell_that_stops_early_leaves_its_best_weights_and_every_count(
    resnet: Model, digits_root: Path, tmp_path: Path
) -> None:
    recipe = FAST.model_copy(update={"lr": 0.3, "epochs": 8, "holdout": 0.25, "patience": 2})
    cell = cell_of("lp", resnet, recipe=recipe, downstream="r")
    module = made_cell(cell, digits_root, tmp_path).eval()
    rows = pq.read_table(tmp_path / "history" / f"{cell.cell_id}.parquet").to_pylist()
    counts = [row["held_out_correct"] for row in rows]
    best = counts.index(max(counts))
    assert len(rows) == min(8, best + 1 + 2)
    bench = bench_of(cell, digits_root, tmp_path)
    trained_on: set[int] = set()

    class Watched(FineTuning):
        def loss(self, step: Step) -> torch.Tensor:
            trained_on.update(step.indices.tolist())
            return super().loss(step)

    bench.train(nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)), Watched(MethodConfig()))
    images, labels = images_of(bench)
    held_out = [k for k in range(len(labels)) if k not in trained_on]
    assert {row["held_out_total"] for row in rows} == {len(held_out)}
    dataset, _ = bench.downstream()
    columns = list(dataset.classes.columns)
    with torch.no_grad():
        said = module(images[held_out])[:, columns].argmax(dim=1).tolist()
    right = [dataset.classes.targets[label][0] for label in labels[held_out].tolist()]
    found = sum(columns[k] == target for k, target in zip(said, right, strict=True))
    assert found == max(counts)
