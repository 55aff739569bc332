"""Augmentation: timm's changes, drawn by seed alone."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.transforms_factory import create_transform

from workers.augment import AugmentedSource, seeded
from workers.datasets import Dataset, Split
from workers.images import ImageSource, Transform
from workers.labels import ClassMap
from workers.recipe import Augmentation, Recipe
from workers.suites import DatasetSpec

TRANSFORM = Transform((3, 16, 16), 0.9, "bicubic", (0.5,) * 3, (0.5,) * 3)
EVERYTHING = Augmentation(hflip=0.5, color_jitter=0.3, policy="rand-m9-n2-mstd0.5")


@pytest.fixture
def source(tmp_path: Path) -> ImageSource:
    files = []
    for number in range(7):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        files.append(f"{number}.png")
    split = Split(tmp_path, tuple(files), (0, 1) * 3 + (0,))
    classes = ClassMap(("a", "b"), ((0,), (1,)), 2)
    return ImageSource(Dataset(DatasetSpec("x", "x"), classes, (split,)), TRANSFORM)


def collect(augmented: AugmentedSource, order: torch.Tensor, batch_size: int = 3) -> torch.Tensor:
    """The images by their place in the source."""
    batches = list(augmented.batches(order, batch_size))
    places = torch.cat([batch.indices for batch in batches])
    assert sorted(places.tolist()) == list(range(7))
    assert torch.equal(torch.cat([b.labels for b in batches]), augmented.source.labels[places])
    return torch.cat([batch.pixels for batch in batches])[places.argsort()]


def test_an_epoch_is_the_same_again_and_another_is_not(source: ImageSource) -> None:
    augmented = AugmentedSource(source, TRANSFORM, EVERYTHING, seed=1)
    first, second = torch.randperm(7), torch.randperm(7)
    found = collect(augmented, first)
    torch.rand(5)
    random.random()
    assert torch.equal(collect(augmented, first), found)
    assert torch.equal(collect(augmented, first, batch_size=2), found)
    assert not torch.equal(collect(augmented, second), found)
    other = AugmentedSource(source, TRANSFORM, EVERYTHING, seed=2)
    assert not torch.equal(collect(other, first), found)


@pytest.mark.slow
def test_loader_processes_draw_the_same(source: ImageSource) -> None:
    order = torch.randperm(7)
    found = collect(AugmentedSource(source, TRANSFORM, EVERYTHING, seed=1), order)
    source.loader_workers = 2
    assert torch.equal(collect(AugmentedSource(source, TRANSFORM, EVERYTHING, 1), order), found)


def test_the_generators_are_left_as_they_were(source: ImageSource) -> None:
    torch.manual_seed(3)
    random.seed(3)
    expected = torch.rand(3), random.random()
    torch.manual_seed(3)
    random.seed(3)
    collect(AugmentedSource(source, TRANSFORM, EVERYTHING, seed=1), torch.arange(7))
    assert torch.equal(torch.rand(3), expected[0])
    assert random.random() == expected[1]


def test_the_changes_are_timm_s(source: ImageSource) -> None:
    """Without crops that shrink and without chance, what is left is timm's plain resize."""
    plain = Augmentation(scale=(1.0, 1.0), ratio=(1.2, 1.2), hflip=0.0)
    found = collect(AugmentedSource(source, TRANSFORM, plain, seed=1), torch.arange(7))
    timm_s = create_transform(
        (3, 16, 16),
        is_training=True,
        scale=(1.0, 1.0),
        ratio=(1.2, 1.2),
        hflip=0.0,
        color_jitter=None,
        interpolation="bicubic",
        normalize=False,
    )
    for number, pixels in enumerate(found):
        with seeded(0):
            assert torch.equal(pixels, timm_s(source.files.picture(number)))


@pytest.mark.parametrize("wrong", [{"policy": "nonsense"}, {"hflip": 2}, {"scale": [0, 1]}])
def test_nonsense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Recipe.model_validate({"augment": wrong})
