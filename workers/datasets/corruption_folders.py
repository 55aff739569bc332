"""`<corruption>/<severity>/<class id>/<image>`: ImageNet-C.

The corruptions may lie in the groups that they come in as archives: `blur/`, `digital/`, `noise/`
and `weather/`. Every split is read and scored by itself. A missing one is an error, never a shorter
mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from workers.datasets.base import (
    Dataset,
    Listings,
    Split,
    check_folders,
    folders_in,
    layout,
    read_split,
    share_listing,
)
from workers.datasets.locate import ambiguous, by_name, unwrap
from workers.errors import DataError, Problem
from workers.labels import ClassMap, LabelSpace, map_class_ids
from workers.suites.base import DatasetSpec

GROUPS = ("blur", "digital", "extra", "noise", "weather")


@layout("corruption_folders")
def read(folder: Path, spec: DatasetSpec, space: LabelSpace) -> Dataset:
    """Read every split that the suite declares, in its order."""
    classes = map_class_ids(space.ids, space)
    corruptions = list(dict.fromkeys(str(corruption) for corruption, _ in spec.splits))
    folder = unwrap(folder, [*corruptions, *GROUPS])
    places = _find(folder, corruptions)
    listings: Listings = {}
    splits: list[Split] = []
    problems: list[Problem] = []
    for corruption, severity in spec.splits:
        place = places[str(corruption)] / str(severity)
        try:
            split = _read_split(place, classes, corruption, severity)
            splits.append(share_listing(split, listings))
        except DataError as error:
            problems.extend(error.problems)
    if problems:
        raise DataError(problems)
    return Dataset(spec, classes, tuple(splits), ignored=_others(folder, places))


def _find(folder: Path, corruptions: Sequence[str]) -> dict[str, Path]:
    """Return each corruption's folder; for one that is not there, the place where it should be.

    Raises:
        DataError: when a corruption is there twice.
    """
    found: dict[str, list[Path]] = {name: [] for name in corruptions}
    for place in (folder, *by_name(folder, GROUPS).values()):
        for name, corrupted in by_name(place, corruptions).items():
            found[name].append(corrupted)
    problems = [ambiguous(name, places) for name, places in found.items() if len(places) > 1]
    if problems:
        raise DataError(problems)
    return {name: places[0] if places else folder / name for name, places in found.items()}


def _others(folder: Path, places: dict[str, Path]) -> tuple[str, ...]:
    """Return the folders beside the corruptions that are none of the benchmark's."""
    groups = by_name(folder, GROUPS).values()
    taken = {*places.values(), *groups}
    return tuple(
        str((place / name).relative_to(folder))
        for place in (folder, *groups)
        for name in folders_in(place)
        if place / name not in taken
    )


def _read_split(
    place: Path, classes: ClassMap, corruption: str | None, severity: int | None
) -> Split:
    if problems := check_folders(place, folders_in(place), classes.classes):
        raise DataError(problems)
    labels_of = [(name, i) for i, name in enumerate(classes.classes)]
    return read_split(place, labels_of, corruption, severity)
