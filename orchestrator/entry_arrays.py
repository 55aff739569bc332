"""Accuracies as arrays: what the formulas of `orchestrator.reduce` take.

An entry is a model, a method and a seed. With n OOD sets, arrays of fine-tuned models have an axis
of n downstream sets and one of 1 + n evaluation sets, the ID set first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from orchestrator.accuracies import BASELINE, IMAGES, unique_rows
from orchestrator.set_names import SetNames
from orchestrator.statistics import Floats

ENTRY = ["model", "method", "seed"]


@dataclass(frozen=True)
class EntryArrays:
    """What each of E entries reaches, in percent, and over how many images; NaN for a hole."""

    entries: pd.DataFrame
    """(model, method, seed), sorted."""
    tuned: Floats
    """(E, n, 1 + n) percents."""
    tuned_images: Floats
    """(E, n, 1 + n)."""
    before: Floats
    """(E, 1 + n) percents of the entry's model as it came."""
    before_images: Floats
    """(E, 1 + n)."""

    @property
    def starts(self) -> NDArray[np.int64]:
        """Where the seeds of each model and method begin."""
        return np.flatnonzero(~self.entries.duplicated(["model", "method"]).to_numpy())

    def fewest_images(self) -> Floats:
        """Return the images that every seed of a model and method was scored on: (G, n, 1 + n)."""
        if not len(self.starts):
            return self.tuned_images
        return np.asarray(np.minimum.reduceat(self.tuned_images, self.starts))


def arrange(
    accuracies: pd.DataFrame, sets: SetNames, expected: pd.DataFrame | None = None
) -> EntryArrays:
    """Arrange a frame of accuracies by entry.

    Args:
        accuracies: the frame of accuracies.
        sets: the suite's names.
        expected: the entries that should exist, alone; by default those that do.

    Raises:
        ConflictingRows: a key has two values.
    """
    entries = list_entries(accuracies, expected)
    tuned, tuned_images = fine_tuned(accuracies, sets, entries)
    before, before_images = baselines(accuracies, sets, pd.Index(entries["model"]))
    return EntryArrays(entries, tuned, tuned_images, before, before_images)


def list_entries(accuracies: pd.DataFrame, expected: pd.DataFrame | None = None) -> pd.DataFrame:
    """List the distinct model, method and seed of everything but the baselines, sorted."""
    listed = accuracies if expected is None else expected
    entries = listed.loc[listed["method"] != BASELINE, ENTRY].drop_duplicates()
    return entries.sort_values(ENTRY, ignore_index=True)


def fine_tuned(
    accuracies: pd.DataFrame, sets: SetNames, entries: pd.DataFrame
) -> tuple[Floats, Floats]:
    """Arrange what each entry reaches after each downstream set.

    Returns:
        (entries, n, 1 + n) percents, and images.
    """
    rows = accuracies[(accuracies["method"] != BASELINE) & accuracies["downstream"].notna()]
    entry = _position(rows, entries)
    downstream = _places(rows["downstream"], pd.Index(sets.ood))
    n = len(sets.ood)
    place = np.where((entry >= 0) & (downstream >= 0), entry * n + downstream, -1)
    percents, images = _spread_out(rows, place, len(entries) * n, sets, [*ENTRY, "downstream"])
    shape = (len(entries), n, n + 1)
    return percents.reshape(shape), images.reshape(shape)


def baselines(accuracies: pd.DataFrame, sets: SetNames, models: pd.Index) -> tuple[Floats, Floats]:
    """Arrange what each model reaches as it came: (models, 1 + n) percents, and images."""
    rows = accuracies[(accuracies["method"] == BASELINE) & accuracies["downstream"].isna()]
    names = models.unique()
    place = _places(rows["model"], names)
    percents, images = _spread_out(rows, place, len(names), sets, ["model"])
    at = names.get_indexer(models)
    return percents[at], images[at]


def _position(rows: pd.DataFrame, entries: pd.DataFrame) -> NDArray[np.int64]:
    """Return which of the entries each row is of; -1 for none."""
    known = [pd.Index(entries[name]).unique() for name in ENTRY]
    sizes = [len(names) for names in known]
    where = np.full(np.prod(sizes, dtype=int), -1)
    columns = zip(ENTRY, known, strict=True)
    places = [
        (_places(rows[name], names), _places(entries[name], names)) for name, names in columns
    ]
    of_row, of_entry = zip(*places, strict=True)
    where[np.ravel_multi_index(of_entry, sizes)] = np.arange(len(entries))
    is_known = np.minimum.reduce(of_row) >= 0
    found = np.full(len(rows), -1)
    found[is_known] = where[np.ravel_multi_index([of[is_known] for of in of_row], sizes)]
    return found


def _places(values: pd.Series, names: pd.Index) -> NDArray[np.int64]:
    """Return the place of each value among some distinct names; -1 where it is none of them."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        of_category = np.append(names.get_indexer(values.cat.categories), -1)  # null has code -1
        return np.asarray(of_category[values.cat.codes], dtype=np.int64)
    return np.asarray(names.get_indexer(pd.Index(values)), dtype=np.int64)


def _spread_out(
    rows: pd.DataFrame, place: NDArray[np.int64], size: int, sets: SetNames, key: list[str]
) -> tuple[Floats, Floats]:
    """Put each row's accuracy and images at its place and evaluation set: (size, 1 + n) twice.

    Raises:
        ConflictingRows: two rows of one `key` and evaluation set differ.
    """
    columns = _places(rows["eval_dataset"], pd.Index(sets.names))
    values = rows["accuracy"].to_numpy(dtype=np.float64)
    wanted = (place >= 0) & (columns >= 0) & ~np.isnan(values)
    at = (place * len(sets.names) + columns)[wanted]
    percents, images = (np.full(size * len(sets.names), np.nan) for _ in range(2))
    percents[at] = values[wanted]
    if (percents[at] != values[wanted]).any():
        unique_rows(rows[wanted], [*key, "eval_dataset"], ["accuracy"])
    if IMAGES in rows:
        images[at] = rows[IMAGES].to_numpy(dtype=np.float64)[wanted]
    shape = (size, len(sets.names))
    return percents.reshape(shape), images.reshape(shape)
