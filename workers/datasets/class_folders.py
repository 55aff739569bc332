"""One folder per class, named by its id: ImageNet's val, A, R, Sketch, Cartoon and Drawing."""

from __future__ import annotations

from pathlib import Path

from workers.datasets.base import (
    Dataset,
    check_folders,
    folders_in,
    images_in,
    layout,
    read_split,
)
from workers.datasets.locate import unwrap
from workers.errors import DataError, Problem
from workers.labels import LabelSpace, map_class_ids
from workers.suites.base import DatasetSpec


@layout("class_folders")
def read(folder: Path, spec: DatasetSpec, space: LabelSpace) -> Dataset:
    """Read `<class id>/<image>`; the class is found by the folder's name, never its position."""
    expected = spec.classes or space.ids
    folder = unwrap(folder, expected)
    found = folders_in(folder)
    if not found and (images := images_in(folder)):
        # As ImageNet's val archive unpacks: nothing here says which class an image is of.
        message = f"has {len(images)} images that are not sorted into class folders"
        hint = f"one folder per class: {expected[0]}, ..."
        raise DataError([Problem(str(folder), message, hint)])
    if problems := check_folders(folder, found, expected):
        raise DataError(problems)
    classes = map_class_ids(sorted(expected, key=space.index.__getitem__), space)
    split = read_split(folder, [(name, i) for i, name in enumerate(classes.classes)])
    return Dataset(spec, classes, (split,))
