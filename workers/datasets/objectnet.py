"""ObjectNet: folders named by words, mapped to the label space by the archive's own files.

The files in `mappings/` chain folder -> ObjectNet label -> names of ImageNet classes (several,
with semicolons between) -> line of the 2012 label list -> PyTorch's label index. A folder whose
label maps to nothing is no part of the benchmark. An image counts as right when the prediction is
any of its class's indices. Images carry a border that has to be cropped before anything else, so
that ObjectNet is not learnt by its border (objectnet.dev).
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from workers.datasets.base import Dataset, folders_in, layout, read_split
from workers.errors import DataError, Problem, nearest
from workers.labels import ClassMap, LabelSpace
from workers.suites.base import DatasetSpec

T = TypeVar("T")

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
    label_of_folder = _read_json(folder / FOLDERS, dict[str, str])
    class_names_of_label = _read_json(folder / CLASSES, dict[str, str])
    line_of_index = _read_json(folder / INDICES, dict[int, int])
    lines = _read_text(folder / NAMES).splitlines()
    index_of_line = {line: index for index, line in line_of_index.items()}
    index_of_name = {
        name.strip(): index_of_line[line]
        for line, name in enumerate(lines)
        if index_of_line.get(line, n_labels) < n_labels
    }
    times = Counter(name.strip() for name in lines)
    problems = [
        Problem(str(folder / CLASSES), f"{label!r} maps to {name!r}, which {NAMES} {fault}")
        for label, names in class_names_of_label.items()
        for name in names.split("; ")
        if (fault := _fault(name in index_of_name, times[name]))
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


def _fault(known: bool, times: int) -> str:
    if not known:
        return "does not list"
    return f"lists {times} times" if times > 1 else ""


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError([Problem(str(path), f"cannot be read: {error}")]) from error


def _read_json(path: Path, shape: type[T]) -> T:
    try:
        return TypeAdapter(shape).validate_json(_read_text(path))
    except ValidationError as error:
        problems = [
            Problem(".".join([str(path), *map(str, fault["loc"])]), fault["msg"])
            for fault in error.errors()
        ]
        raise DataError(problems) from error
