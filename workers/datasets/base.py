"""What a data set looks like once its folders have been read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from workers.errors import DataError, Problem, nearest
from workers.labels import ClassMap, LabelSpace
from workers.suites.base import DatasetSpec

IMAGE_SUFFIXES = frozenset({".jpeg", ".jpg", ".png"})


@dataclass(frozen=True)
class Split:
    """The images of one evaluation split, in a fixed order.

    `files[i]` is relative to `folder`; `labels[i]` is the position of its class in the data set's
    ClassMap.
    """

    folder: Path
    files: tuple[str, ...]
    labels: tuple[int, ...]
    corruption: str | None = None
    severity: int | None = None

    def __len__(self) -> int:
        return len(self.files)


@dataclass(frozen=True)
class Dataset:
    """One data set as it lies on this machine's disk."""

    spec: DatasetSpec
    classes: ClassMap
    splits: tuple[Split, ...]
    border: int = 0
    """Pixels to crop on each side before anything else (ObjectNet's red border)."""
    ignored: tuple[str, ...] = field(default=())
    """Folders that by the data set's own word are no class of the label space."""

    def __len__(self) -> int:
        return sum(len(split) for split in self.splits)

    @cached_property
    def digest(self) -> str:
        """Digest every file's name and label (names, not bytes: reading all of them is slow)."""
        text = hashlib.sha256()
        for split in self.splits:
            text.update(f"{split.corruption}/{split.severity}\n".encode())
            for name, label in zip(split.files, split.labels, strict=True):
                text.update(f"{name}\t{self.classes.targets[label]}\n".encode())
        return text.hexdigest()[:16]


Layout = Callable[[Path, DatasetSpec, LabelSpace], Dataset]
"""Reads the folder of a data set. Raises DataError with every problem found."""

LAYOUTS: dict[str, Layout] = {}
"""The on-disk layouts by the name that a DatasetSpec gives."""


def layout(name: str) -> Callable[[Layout], Layout]:
    """Register an on-disk layout under the name that a DatasetSpec gives."""

    def register(function: Layout) -> Layout:
        LAYOUTS[name] = function
        return function

    return register


def folders_in(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted; hidden ones left out.

    Raises:
        DataError: when there is no such folder.
    """
    if not folder.is_dir():
        raise DataError([Problem(str(folder), "there is no such folder")])
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def images_in(folder: Path) -> list[str]:
    """Return the names of the images directly in a folder, sorted."""
    return sorted(
        p.name
        for p in folder.iterdir()
        if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")
    )


def check_folders(folder: Path, found: Sequence[str], expected: Iterable[str]) -> list[Problem]:
    """Compare class folders with those that should be there; say each difference."""
    wanted = set(expected)
    stray = [
        Problem(str(folder / name), "is no class of this data set", nearest(name, wanted))
        for name in found
        if name not in wanted
    ]
    missing = sorted(wanted.difference(found))
    if missing:
        names = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        stray.append(Problem(str(folder), f"{len(missing)} class folders are missing: {names}"))
    return stray


def read_split(
    folder: Path,
    labels_of: Sequence[tuple[str, int]],
    corruption: str | None = None,
    severity: int | None = None,
) -> Split:
    """List the images of a split's class folders.

    Args:
        folder: what the files' names are relative to.
        labels_of: the class folders below it, each with its class's position in the ClassMap.
        corruption: which split this is.
        severity: which split this is.

    Raises:
        DataError: when a class folder has no image.
    """
    files: list[str] = []
    labels: list[int] = []
    empty: list[Problem] = []
    for name, label in labels_of:
        images = images_in(folder / name)
        if not images:
            empty.append(Problem(str(folder / name), "has no image in it"))
        files.extend(f"{name}/{image}" for image in images)
        labels.extend([label] * len(images))
    if empty:
        raise DataError(empty)
    return Split(folder, tuple(files), tuple(labels), corruption, severity)
