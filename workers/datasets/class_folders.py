"""One folder per class, named by its id: ImageNet's val, A, R, Sketch, Cartoon and Drawing."""

from __future__ import annotations

from pathlib import Path

from workers.datasets.base import Dataset, check_folders, folders_in, layout, read_split
from workers.errors import DataError
from workers.labels import LabelSpace, map_class_ids
from workers.suites.base import DatasetSpec


@layout("class_folders")
def read(folder: Path, spec: DatasetSpec, space: LabelSpace) -> Dataset:
    """Read `<class id>/<image>`; the class is found by the folder's name, never its position."""
    expected = spec.classes or space.ids
    if problems := check_folders(folder, folders_in(folder), expected):
        raise DataError(problems)
    classes = map_class_ids(sorted(expected, key=space.index.__getitem__), space)
    split = read_split(folder, [(name, i) for i, name in enumerate(classes.classes)])
    return Dataset(spec, classes, (split,))
