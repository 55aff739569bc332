"""Images that are changed at random each time that they are trained on.

The changes are timm's. They are drawn for each image from the cell's seed, the image's place and
the order of the epoch, and from nothing else: not from how many processes decode, nor from whether
the run was interrupted.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from timm.data.transforms_factory import create_transform
from torch.utils.data import Dataset

from workers.cell import digest
from workers.errors import DataError
from workers.images import Batch, Files, ImageSource, Transform, batch_indices, load_in_parts
from workers.recipe import Augmentation


class AugmentedSource:
    """The images of a source, changed anew in each epoch. They are decoded each time."""

    def __init__(
        self, source: ImageSource, transform: Transform, augmentation: Augmentation, seed: int
    ) -> None:
        self.source, self.seed = source, seed
        self.changes = training_transform(transform, augmentation)

    def __len__(self) -> int:
        return len(self.source)

    def batches(self, order: torch.Tensor, batch_size: int) -> Iterator[Batch]:
        """Yield the images at the places that `order` (int64 [N]) names, in that order."""
        parts = batch_indices(order, batch_size)
        files = _Changed(self.source.files, self.changes, digest([self.seed, order.tolist()], 32))
        images_of = load_in_parts(files, parts, self.source.loader_workers, self.source.pinned)
        for part, images in zip(parts, images_of, strict=True):
            yield Batch(images, self.source.labels[part], part)


def training_transform(transform: Transform, augmentation: Augmentation) -> Any:
    """Return timm's training transform up to a uint8 tensor [C, H, W]."""
    return create_transform(
        transform.input_size,
        is_training=True,
        scale=augmentation.scale,
        ratio=augmentation.ratio,
        hflip=augmentation.hflip,
        color_jitter=augmentation.color_jitter or None,  # type: ignore[arg-type]  # None: none
        auto_augment=augmentation.policy,
        interpolation=transform.interpolation,
        mean=transform.mean,
        normalize=False,
        re_prob=0.0,
    )


class _Changed(Dataset[torch.Tensor | DataError]):
    """Image files, each changed by numbers drawn for it in this epoch."""

    def __init__(self, files: Files, changes: Any, epoch: str) -> None:
        self.files, self.changes, self.epoch = files, changes, epoch

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor | DataError:
        try:
            picture = self.files.picture(index)
        except DataError as error:
            return error  # raised in a loader process, it would come back as another
        with seeded(int(digest([self.epoch, index]), 16)):
            pixels: torch.Tensor = self.changes(picture)
        return pixels


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the generators that transforms draw from, and leave them afterwards as they were."""
    before = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed % 2**63)
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])
