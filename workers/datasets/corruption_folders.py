"""`<corruption>/<severity>/<class id>/<image>`: ImageNet-C.

Every split is read and scored by itself. A missing one is an error, never a shorter mean.
"""

from __future__ import annotations

from pathlib import Path

from workers.datasets.base import Dataset, Split, check_folders, folders_in, layout, read_split
from workers.errors import DataError, Problem
from workers.labels import ClassMap, LabelSpace, map_class_ids
from workers.suites.base import DatasetSpec


@layout("corruption_folders")
def read(folder: Path, spec: DatasetSpec, space: LabelSpace) -> Dataset:
    """Read every split that the suite declares, in its order."""
    classes = map_class_ids(space.ids, space)
    splits: list[Split] = []
    problems: list[Problem] = []
    for corruption, severity in spec.splits:
        try:
            splits.append(_read_split(folder, classes, corruption, severity))
        except DataError as error:
            problems.extend(error.problems)
    if problems:
        raise DataError(problems)
    return Dataset(spec, classes, tuple(splits))


def _read_split(
    folder: Path, classes: ClassMap, corruption: str | None, severity: int | None
) -> Split:
    place = folder / str(corruption) / str(severity)
    if problems := check_folders(place, folders_in(place), classes.classes):
        raise DataError(problems)
    labels_of = [(name, i) for i, name in enumerate(classes.classes)]
    return read_split(place, labels_of, corruption, severity)
