"""ObjectNet: folders named by words, mapped to the label space by the archive's own files.

The files in `mappings/` chain folder -> ObjectNet label -> names of ImageNet classes (several,
with semicolons between) -> line of the 2012 label list -> PyTorch's label index. A folder whose
label maps to nothing is no part of the benchmark. An image counts as right when the prediction is
any of its class's indices. Images carry a border that has to be cropped before anything else, so
that ObjectNet is not learnt by its border (objectnet.dev).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from workers.datasets.base import Dataset, folders_in, layout, read_split
from workers.errors import DataError, Problem, nearest
from workers.labels import ClassMap, LabelSpace
from workers.suites.base import DatasetSpec

FOLDERS = "folder_to_objectnet_label.json"
CLASSES = "objectnet_to_imagenet_1k.json"
INDICES = "pytorch_to_imagenet_2012_id.json"
NAMES = "imagenet_to_label_2012_v2"


@layout("objectnet")
def read(folder: Path, spec: DatasetSpec, space: LabelSpace) -> Dataset:
    """Read `images/<Name>/<image>` by `mappings/`. `spec.options["border"]` is in pixels."""
    targets = read_mappings(folder / "mappings", len(space))
    found = folders_in(folder / "images")
    mapped = sorted(name for name in targets if targets[name])
    problems = [
        Problem(str(folder / "images" / name), f"is not in {FOLDERS}", nearest(name, targets))
        for name in found
        if name not in targets
    ]
    problems += [
        Problem(str(folder / "images" / name), "this class folder is missing")
        for name in mapped
        if name not in found
    ]
    if problems:
        raise DataError(problems)
    classes = ClassMap(tuple(mapped), tuple(targets[name] for name in mapped), len(space))
    split = read_split(folder / "images", [(name, i) for i, name in enumerate(mapped)])
    ignored = tuple(name for name in found if not targets[name])
    return Dataset(spec, classes, (split,), border=spec.options.get("border", 0), ignored=ignored)


def read_mappings(folder: Path, n_labels: int) -> dict[str, tuple[int, ...]]:
    """Return the label-space indices of every image folder; none for those outside the space.

    Raises:
        DataError: when a mapping file is missing, not readable, or does not lead all the way.
    """
    label_of_folder = _read_json(folder / FOLDERS)
    class_names_of_label = _read_json(folder / CLASSES)
    line_of_index = _read_json(folder / INDICES)
    lines = _read_text(folder / NAMES).splitlines()
    index_of_line = {line: int(index) for index, line in line_of_index.items()}
    index_of_name = {
        name.strip(): index_of_line[line]
        for line, name in enumerate(lines)
        if index_of_line.get(line, n_labels) < n_labels
    }
    problems = [
        Problem(str(folder / CLASSES), f"{label!r} maps to {name!r}, which {NAMES} does not list")
        for label, names in class_names_of_label.items()
        for name in names.split("; ")
        if name not in index_of_name
    ]
    problems += [
        Problem(str(folder / CLASSES), f"{label!r} is the label of no folder in {FOLDERS}")
        for label in sorted(set(class_names_of_label).difference(label_of_folder.values()))
    ]
    if problems:
        raise DataError(problems)
    indices = {
        label: tuple(sorted(index_of_name[name] for name in names.split("; ")))
        for label, names in class_names_of_label.items()
    }
    return {name: indices.get(label, ()) for name, label in label_of_folder.items()}


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError([Problem(str(path), f"cannot be read: {error}")]) from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(_read_text(path))
    except ValueError as error:
        raise DataError([Problem(str(path), f"is no JSON: {error}")]) from error
    if not isinstance(value, dict):
        raise DataError([Problem(str(path), "is no JSON object")])
    return value
