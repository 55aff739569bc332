"""Pre-training the models of `digits-rib` on its ID images, with the one training loop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch.nn import functional

from workers.cell import Model
from workers.datasets import read_dataset
from workers.images import Batch, ImageSource
from workers.models import create, pack_state, state_of, transform_of
from workers.recipe import Recipe
from workers.scoring import Scorer
from workers.suites.base import Suite
from workers.train import Step, Trainer

MAX_SHIFT = 2
"""Pixels by which training pictures are moved each way: digits come centred."""

RECIPES = {
    "vit_digits": Recipe(
        optimizer="adamw",
        lr=1e-3,
        weight_decay=0.05,
        warmup_steps=90,
        epochs=60,
        batch_size=64,
        precision="fp32",
    ),
    "resnet_digits": Recipe(
        optimizer="adamw",
        lr=3e-3,
        weight_decay=0.05,
        warmup_steps=38,
        epochs=25,
        batch_size=64,
        precision="fp32",
    ),
}
SEED = 1


@dataclass(frozen=True)
class ShiftedSource:
    """An image source whose pictures are moved at random, anew each time; black moves in."""

    source: ImageSource
    generator: torch.Generator

    def __len__(self) -> int:
        return len(self.source)

    def batches(self, order: torch.Tensor, batch_size: int) -> Iterator[Batch]:
        for batch in self.source.batches(order, batch_size):
            yield replace(batch, pixels=shift(batch.pixels, MAX_SHIFT, self.generator))


def shift(pixels: torch.Tensor, most: int, generator: torch.Generator) -> torch.Tensor:
    """Move each picture of [B, C, H, W] by up to `most` pixels up, down, left and right."""
    height, width = pixels.shape[-2:]
    padded = functional.pad(pixels, (most, most, most, most))
    offsets = torch.randint(0, 2 * most + 1, (len(pixels), 2), generator=generator).tolist()
    return torch.stack(
        [
            picture[:, top : top + height, left : left + width]
            for picture, (top, left) in zip(padded, offsets, strict=True)
        ]
    )


def pretrain(suite: Suite, model: Model, root: Path) -> bytes:
    """Train a model from scratch on the suite's ID training images; return its safetensors.

    Deterministic on one kind of machine: one thread, every generator seeded.
    """
    assert suite.id_train is not None
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.manual_seed(SEED)
    module = create(model)
    transform = transform_of(model, module)
    dataset = read_dataset(suite, suite.id_train, root)
    trainer = Trainer(
        source=ShiftedSource(ImageSource(dataset, transform), torch.Generator().manual_seed(SEED)),
        scorer=Scorer(dataset.classes, torch.device("cpu")),
        normalise=transform.normalise,
        recipe=RECIPES[model.name],
        device=torch.device("cpu"),
        seed=SEED,
    )
    trainer.train(module, Step.cross_entropy)
    return pack_state(state_of(module))
