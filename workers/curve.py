"""Which evaluations are made while a cell is trained, and on which images.

They make the curve of a cell: accuracies epoch by epoch, on a fixed part of the images of some
evaluation sets. Evaluating is not training, so none of this is part of a cell's identity.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workers.datasets import Dataset, Split


EpochKey = tuple[str, int, float, int]
"""Evaluation set, epoch, and which part of the set's images: its fraction and its seed."""


@dataclass(frozen=True)
class Curve:
    """What a grid asks for."""

    sets: tuple[str, ...]
    """Evaluation sets."""
    every: int = 1
    """Epochs from one evaluation to the next."""
    fraction: float = 1.0
    """Part of each class's images."""
    seed: int = 0
    """Decides which images these are."""

    @property
    def images(self) -> str:
        """Say which images of a set they are."""
        if self.fraction == 1:
            return "all images"
        return f"{self.fraction:g} of each class's images"

    def epochs(self, last: int) -> tuple[int, ...]:
        """Return the epochs after which there is an evaluation; 0 is before training.

        Args:
            last: the epochs of the recipe; there is one after the last in any case.
        """
        return tuple(sorted({*range(0, last + 1, self.every), last}))

    def parts(self, last: int) -> tuple[str, ...]:
        """Return the names of all parts of the accuracy table that the evaluations are put in."""
        return tuple(part_of(name, epoch) for epoch in self.epochs(last) for name in self.sets)


def part_of(eval_dataset: str, epoch: int) -> str:
    """Name the part of the accuracy table that has a set's rows after an epoch."""
    return f"{eval_dataset}.e{epoch:05d}"


def some_of(dataset: Dataset, fraction: float, seed: int = 0) -> Dataset:
    """Return a data set with a part of its images, the same for whoever asks.

    Of each class it has `fraction` of the images, rounded, and at least one. Which these are is
    decided by the seed and by the names of the data set and of the images alone: it is the same for
    every cell, for every corruption of a picture, whatever other images there are, and a larger
    part has all of a smaller one.

    Args:
        dataset: the whole.
        fraction: in (0, 1]; 1 is the whole.
        seed: another takes other images.
    """
    if fraction == 1:
        return dataset
    known: dict[tuple[tuple[str, ...], tuple[int, ...]], list[int]] = {}
    splits = []
    for split in dataset.splits:
        listing = (split.files, split.labels)  # ImageNet-C's 75 splits have one between them
        if listing not in known:
            known[listing] = _places(split, f"{seed}/{dataset.spec.name}", fraction)
        places = known[listing]
        files = tuple(split.files[place] for place in places)
        labels = tuple(split.labels[place] for place in places)
        splits.append(replace(split, files=files, labels=labels, n_left_out=0))
    return replace(dataset, splits=tuple(splits))


def _places(split: Split, lottery: str, fraction: float) -> list[int]:
    """Return the places of the images that a lottery chooses in a split, ascending."""
    by_class: dict[int, list[int]] = defaultdict(list)
    for place, label in enumerate(split.labels):
        by_class[label].append(place)

    def lot(place: int) -> bytes:
        text = f"{lottery}/{split.files[place]}".encode(errors="surrogateescape")
        return hashlib.sha256(text).digest()

    chosen: list[int] = []
    for places in by_class.values():
        n = max(1, round(fraction * len(places)))
        chosen += sorted(places, key=lot)[:n]
    return sorted(chosen)
