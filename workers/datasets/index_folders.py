"""One folder per class, named by its label index: ImageNet-V2.

Sorted as text, as torchvision's ImageFolder does, "10" comes before "2" and nearly every label is
wrong (modestyachts/ImageNetV2 issues 4 and 10): the class is the number that the name spells.
"""

from __future__ import annotations

from pathlib import Path

from workers.datasets.base import Dataset, check_folders, folders_in, layout, read_split
from workers.datasets.locate import unwrap
from workers.errors import DataError
from workers.labels import LabelSpace, map_class_ids
from workers.suites.base import DatasetSpec


@layout("index_folders")
def read(folder: Path, spec: DatasetSpec, space: LabelSpace) -> Dataset:
    """Read `<label index>/<image>`, for every index of the label space."""
    names = [str(index) for index in range(len(space))]
    folder = unwrap(folder, names)
    if problems := check_folders(folder, folders_in(folder), names):
        raise DataError(problems)
    split = read_split(folder, [(name, index) for index, name in enumerate(names)])
    return Dataset(spec, map_class_ids(space.ids, space), (split,))
