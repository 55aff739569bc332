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
from workers.datasets.locate import by_name, unwrap
from workers.errors import DataError, Problem, nearest
from workers.labels import ClassMap, LabelSpace
from workers.suites.base import DatasetSpec

T = TypeVar("T")

PARTS = ("images", "mappings")

FOLDERS = "folder_to_objectnet_label.json"
CLASSES = "objectnet_to_imagenet_1k.json"
INDICES = "pytorch_to_imagenet_2012_id.json"
NAMES = "imagenet_to_label_2012_v2"


@layout("objectnet")
def read(folder: Path, spec: DatasetSpec, space: LabelSpace) -> Dataset:
    """Read `images/<Name>/<image>` by `mappings/`. `spec.options["border"]` is in pixels."""
    folder = unwrap(folder, PARTS)
    places = {name: folder / name for name in PARTS} | by_name(folder, PARTS)
    images = places["images"]
    targets = read_mappings(places["mappings"], space)
    found = folders_in(images)
    mapped = sorted(name for name in targets if targets[name])
    problems = [
        Problem(str(images / name), f"is not in {FOLDERS}", nearest(name, targets))
        for name in found
        if name not in targets
    ]
    problems += [
        Problem(str(images / name), "this class folder is missing")
        for name in mapped
        if name not in found
    ]
    if problems:
        raise DataError(problems)
    classes = ClassMap(tuple(mapped), tuple(targets[name] for name in mapped), len(space))
    split = read_split(images, [(name, i) for i, name in enumerate(mapped)])
    ignored = tuple(name for name in found if not targets[name])
    return Dataset(spec, classes, (split,), border=spec.options.get("border", 0), ignored=ignored)


def read_mappings(folder: Path, space: LabelSpace) -> dict[str, tuple[int, ...]]:
    """Return the label-space indices of every image folder; none for those outside the space.

    Raises:
        DataError: when a mapping file is missing, not readable, or does not lead all the way.
    """
    label_of_folder = _read_json(folder / FOLDERS, dict[str, str])
    text_of_label = _read_json(folder / CLASSES, dict[str, str])
    names_of_label = {label: text.split("; ") for label, text in text_of_label.items()}
    index_of_name = _read_indices(folder, space)
    problems = [
        Problem(str(folder / CLASSES), f"{label!r} maps to {name!r}, which {NAMES} {fault}")
        for label, names in names_of_label.items()
        for name in names
        if (fault := _fault(index_of_name.get(name, [])))
    ]
    problems += [
        Problem(str(folder / CLASSES), f"{label!r} is the label of no folder in {FOLDERS}")
        for label in sorted(set(names_of_label).difference(label_of_folder.values()))
    ]
    problems += [
        Problem(str(folder / FOLDERS), f"{label!r} is the label of {n} folders")
        for label, n in Counter(label_of_folder.values()).items()
        if n > 1
    ]
    problems = problems or _misnamed(folder, names_of_label, index_of_name, space)
    if problems:
        raise DataError(problems)
    indices = {
        label: tuple(sorted(index_of_name[name][0] for name in names))
        for label, names in names_of_label.items()
    }
    return {name: indices.get(label, ()) for name, label in label_of_folder.items()}


def _read_indices(folder: Path, space: LabelSpace) -> dict[str, list[int]]:
    """Return the label-space indices of every name: two of one that is listed twice ("crane").

    Raises:
        DataError: when the files are not one line for each index of the label space.
    """
    line_of_index = _read_json(folder / INDICES, dict[int, int])
    lines = _read_text(folder / NAMES).splitlines()
    n_labels = len(space)
    if sorted(line_of_index) != list(range(n_labels)):
        message = f"should number the label indices from 0 to {n_labels - 1}, each once"
        raise DataError([Problem(str(folder / INDICES), message)])
    if sorted(line_of_index.values()) != list(range(len(lines))):
        message = f"should give each of the {len(lines)} lines of {NAMES} to one label index"
        raise DataError([Problem(str(folder / INDICES), message)])
    index_of_name: dict[str, list[int]] = {}
    for index, line in line_of_index.items():
        index_of_name.setdefault(lines[line].strip(), []).append(index)
    return index_of_name


def _fault(indices: list[int]) -> str:
    if not indices:
        return "does not list"
    return f"lists {len(indices)} times" if len(indices) > 1 else ""


def _misnamed(
    folder: Path,
    names_of_label: dict[str, list[str]],
    index_of_name: dict[str, list[int]],
    space: LabelSpace,
) -> list[Problem]:
    """Compare the names of the indices with the label space's own, where it has names.

    Nothing else would notice a list of lines that belongs to another order of classes.
    """
    if not space.names:
        return []
    return [
        Problem(
            str(folder / INDICES),
            f"{label!r} maps to {name!r}, index {index}, which is {space.names[index]!r}",
        )
        for label, names in names_of_label.items()
        for name in names
        for index in index_of_name[name]
        if space.names[index] != name
    ]


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
