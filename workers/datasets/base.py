"""What a data set looks like once its folders have been read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from workers.errors import DataError, Problem, nearest
from workers.labels import ClassMap, LabelSpace
from workers.suites.base import DatasetSpec

IMAGE_SUFFIXES = (".jpeg", ".jpg", ".png")


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
    n_left_out: int = 0
    """Images that are on the disk but not in `files`: they do not decode (`workers.leave_out`)."""

    def __len__(self) -> int:
        return len(self.files)

    @property
    def n_expected(self) -> int:
        """Images that are on the disk, and should all be scored."""
        return len(self) + self.n_left_out


@dataclass(frozen=True)
class Dataset:
    """One data set as it lies on this machine's disk."""

    spec: DatasetSpec
    classes: ClassMap
    splits: tuple[Split, ...]
    border: int = 0
    """Pixels to crop on each side before anything else (ObjectNet's red border)."""
    ignored: tuple[str, ...] = field(default=())
    """Folders that by the data set's own word are no part of it: ObjectNet's classes outside the
    label space, ImageNet-C's extra corruptions."""

    def __len__(self) -> int:
        return sum(len(split) for split in self.splits)

    @cached_property
    def digest(self) -> str:
        """Digest every file's name and label (names, not bytes: reading all of them is slow)."""
        text = hashlib.sha256()
        for split in self.splits:
            text.update(f"{split.corruption}/{split.severity}\n".encode())
            text.update(self._lines(split))
        return text.hexdigest()[:16]

    def _lines(self, split: Split) -> bytes:
        targets = self.classes.targets
        files = zip(split.files, split.labels, strict=True)
        lines = (f"{name}\t{targets[label]}\n" for name, label in files)
        return "".join(lines).encode(errors="surrogateescape")


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
    """Return the names of the folders in a folder, sorted; what archivers leave is left out.

    Raises:
        DataError: when there is no such folder.
    """
    if not folder.is_dir():
        raise DataError([Problem(str(folder), "there is no such folder")])
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if _is_shown(entry.name) and entry.is_dir())


def images_in(folder: Path) -> list[str]:
    """Return the names of the images directly in a folder, sorted."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries]
    return sorted(n for n in names if n.lower().endswith(IMAGE_SUFFIXES) and _is_shown(n))


def _is_shown(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"


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


Listings = dict[tuple[tuple[str, ...], tuple[int, ...]], Split]
"""The splits read so far by their files and labels."""


def share_listing(split: Split, known: Listings) -> Split:
    """Return a split that holds the same tuples as an earlier one with the same files and labels.

    ImageNet-C's 75 splits are alike: their names would otherwise take 75 times the memory, some
    400 MB in every worker.
    """
    first = known.setdefault((split.files, split.labels), split)
    return replace(split, files=first.files, labels=first.labels)
