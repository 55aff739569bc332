"""Whether a data set has as many images, splits and classes as the published one.

Truncated downloads and half-unpacked archives go unnoticed otherwise: accuracies on what is there
look like any others.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from workers.datasets.base import Dataset
from workers.errors import Problem
from workers.suites.base import DatasetSpec

FEWER = "unpack the archive again: a download was cut short, or files were lost"
MORE = "take out what was added, or unpack the archive into an empty folder"


@dataclass(frozen=True)
class Counts:
    """How large a data set is. None is a number that is not known."""

    images: int | None = None
    """All splits together."""
    classes: int | None = None
    indices: int | None = None
    """Label-space indices that the classes map to."""
    splits: int | None = None


def expected_counts(spec: DatasetSpec, n_labels: int) -> Counts:
    """Return what a data set should have, for a label space of `n_labels` classes."""
    classes = spec.n_classes or len(spec.classes or ()) or n_labels
    return Counts(spec.n_images, classes, spec.n_indices or classes, len(spec.splits))


def counts_of(dataset: Dataset) -> Counts:
    """Return what a data set has."""
    classes = dataset.classes
    return Counts(len(dataset), len(classes.classes), len(classes.columns), len(dataset.splits))


def count_problems(dataset: Dataset) -> list[Problem]:
    """Compare the images with the published number; a set with splits, split by split."""
    n_images, splits = dataset.spec.n_images, dataset.splits
    if n_images is None:
        return []
    each, rest = divmod(n_images, len(splits))
    if len(splits) > 1 and (rest or not dataset.spec.is_even):
        folder = os.path.commonpath([split.folder for split in splits])
        return _compared(folder, len(dataset), n_images)
    return [p for split in splits for p in _compared(str(split.folder), len(split), each)]


def mapping_problems(dataset: Dataset) -> list[Problem]:
    """Compare the classes, and the label-space indices they map to, with the published numbers."""
    expected, found = expected_counts(dataset.spec, dataset.classes.n_labels), counts_of(dataset)
    hint = "take the mapping and the folders from one and the same archive"
    return [
        Problem(str(dataset.splits[0].folder), f"{n} {what}, {wanted} expected", hint)
        for what, n, wanted in (
            ("classes", found.classes, expected.classes),
            ("label indices that they map to", found.indices, expected.indices),
        )
        if n != wanted
    ]


def _compared(folder: str, n: int, wanted: int) -> list[Problem]:
    if n == wanted:
        return []
    return [Problem(folder, f"{n} images, {wanted} expected", FEWER if n < wanted else MORE)]
