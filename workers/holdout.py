"""Holding out a part of a downstream set: for early stopping and for greedy soups.

The part depends on the set and its size alone, not on the cell or its seed: members of one soup
were then all trained without the same images.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch

from workers.images import Batch


class Batches(Protocol):
    """Images in batches of any order; see `workers.images.ImageSource`."""

    def __len__(self) -> int: ...

    def batches(self, order: torch.Tensor, batch_size: int) -> Iterator[Batch]: ...


class PartOf:
    """Some of the images of a source. Batches name their places in the whole of it."""

    def __init__(self, source: Batches, places: torch.Tensor) -> None:
        """Take places: int64 [N], of the images that belong to the part."""
        self.source, self.places = source, places

    def __len__(self) -> int:
        return len(self.places)

    def batches(self, order: torch.Tensor, batch_size: int) -> Iterator[Batch]:
        """Yield the part's images at the places in it that `order` (int64 [N]) names."""
        return self.source.batches(self.places[order], batch_size)


def split_off(labels: torch.Tensor, part: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Deal images out class by class: places int64 [N - K] to train on, [K] to hold out.

    Args:
        labels: int64 [N].
        part: of each class's images that is held out, rounded; every class keeps one to train on.
        seed: decides which.

    Raises:
        ValueError: when that leaves nothing held out.
    """
    generator = torch.Generator().manual_seed(seed)
    is_held_out = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        places = torch.nonzero(labels == label)[:, 0]
        n_held_out = min(round(part * len(places)), len(places) - 1)
        chosen = torch.randperm(len(places), generator=generator)[:n_held_out]
        is_held_out[places[chosen]] = True
    if not is_held_out.any():
        raise ValueError(f"{part:g} of {len(labels)} images, class by class, holds nothing out")
    return torch.nonzero(~is_held_out)[:, 0], torch.nonzero(is_held_out)[:, 0]
