"""What each image adds to RI and mRI, from the predictions that are kept; pure but for reading.

Entries that are compared on the same images differ by much less than their intervals say: an image
that is hard for one is hard for the other. With the predictions of every cell behind two numbers
the difference is a sum over images, and its interval follows from the images alone.

Sets that show the same images (ImageNet-C, -Cartoon and -Drawing are made from those of ImageNet
val) are one stratum: an image is told by its file's name below the split's folder, without its
ending. All splits of a set with corruptions are of the same images, too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from orchestrator.accuracies import Splits
from orchestrator.set_names import SetNames
from orchestrator.statistics import Floats, bootstrap, percentiles
from workers.cell import BASELINE, Cell
from workers.errors import Problem, UserError

CellKey = tuple[str, str, int | None, str | None]
"""Model, method, seed and downstream set; None for the latter two of a baseline."""

_BY_SPLIT = ["corruption", "severity"]


@dataclass(frozen=True)
class SetImages:
    """What a cell adds to its accuracy on a set, image by image."""

    names: pa.Array
    """Of the images, each once, as they are told apart within a stratum."""
    shown: NDArray[np.int64]
    """How many splits show each."""
    share: Floats
    """What each adds to the set's accuracy, which is their sum, in [0, 1]."""

    def shows_the_same(self, other: SetImages) -> bool:
        """Whether another cell was scored on the same images."""
        return self.names.equals(other.names) and np.array_equal(self.shown, other.shown)


@dataclass(frozen=True)
class Predictions:
    """The predictions that are kept of a grid's cells."""

    sets: SetNames
    splits: Splits
    sources: Mapping[str, str]
    """Evaluation set -> the set whose images it shows."""
    cells: Mapping[CellKey, str]
    """Cell ids."""
    kept: Mapping[str, Collection[str]]
    """Cell id -> the evaluation sets of which predictions are kept."""
    read: Callable[[str, str], pa.Table]
    """(cell id, evaluation set) -> image, corruption, severity and whether it is right: `correct`,
    as the results are scored."""
    _first: dict[str, SetImages] = field(default_factory=dict, repr=False)
    """Of each set the cell that was read first: those of other images are not compared with it."""

    @cached_property
    def seeds(self) -> dict[tuple[str, str], tuple[int, ...]]:
        """Model and method -> the seeds that the grid has."""
        found: dict[tuple[str, str], dict[int, None]] = {}
        for model, method, seed, _ in self.cells:
            if seed is not None:
                found.setdefault((model, method), {})[seed] = None
        return {key: tuple(seeds) for key, seeds in found.items()}

    def cells_of(self, model: str, method: str, downstream: str | None) -> list[str] | None:
        """Return the ids of an entry's cells of one downstream set; None if one is not there."""
        if method == BASELINE:
            keys: list[CellKey] = [(model, BASELINE, None, None)]
        else:
            keys = [(model, method, s, downstream) for s in self.seeds.get((model, method), ())]
        ids = [self.cells.get(key) for key in keys]
        return [one for one in ids if one is not None] if ids and None not in ids else None

    def keeps(self, cell_ids: Sequence[str], name: str) -> bool:
        """Whether the predictions of all of some cells on a set are kept."""
        return all(name in self.kept.get(cell_id, ()) for cell_id in cell_ids)

    def mean(self, cell_ids: Sequence[str], name: str) -> SetImages | None:
        """Average what some cells add on a set.

        Returns:
            None where predictions of one are not kept, lack a split, or are of other images than
            those of the cells before it: some were left out since they do not decode.
        """
        if not cell_ids or not self.keeps(cell_ids, name):
            return None
        found = [_by_image(self.read(cell_id, name), self.splits[name]) for cell_id in cell_ids]
        shares = []
        for one in found:
            if one is None or not one.shows_the_same(self._first.setdefault(name, one)):
                return None
            shares.append(one.share)
        first = self._first[name]
        return SetImages(first.names, first.shown, np.mean(shares, axis=0))


@dataclass(frozen=True)
class PairedEntry:
    """What the predictions of a model and method, and of its baseline, say of mRI and RI."""

    improvement: Floats
    """(1 + n) points: mRI and each RI, as they follow from the predictions."""
    low: Floats
    """(1 + n) points: limits of mRI and of each RI."""
    high: Floats
    mri: Sequence[NDArray[np.float32]]
    """Of each stratum (images): what each image adds to mRI, in points."""


def paired_entries(
    predictions: Predictions, entries: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], PairedEntry]:
    """Return what predictions say of those models and methods whose predictions are all kept."""
    found = {}
    for model, method in entries:
        scores = ri_scores(predictions, model, method, predictions.sets.ood)
        if scores is not None:
            found[model, method] = _bootstrapped(scores)
    return found


def _bootstrapped(scores: Sequence[Floats]) -> PairedEntry:
    mri = [stratum.mean(axis=1) for stratum in scores]
    by_number = [mri, *zip(*(stratum.T for stratum in scores), strict=True)]
    totals = np.array([sum(of.sum() for of in strata) for strata in by_number])
    low, high = np.transpose([percentiles(bootstrap(strata)) for strata in by_number])
    return PairedEntry(totals, low, high, [of.astype(np.float32) for of in mri])


def ri_scores(
    predictions: Predictions, model: str, method: str, downstream: Sequence[str]
) -> list[Floats] | None:
    """Return what each image adds to the RI of a model and method.

    Args:
        predictions: where they are kept.
        model: the entry's model.
        method: the entry's method; RI of the baseline is 0.
        downstream: the sets whose RI are meant.

    Returns:
        Of each stratum (images, len(downstream)) points, whose sums over all strata are the RI.
        None unless all predictions behind them are kept, of the same images throughout.
    """
    others = len(predictions.sets.ood) - 1
    by_set: dict[str, tuple[SetImages, Floats]] = {}
    for name in predictions.sets.ood:
        if all(one == name for one in downstream):
            continue  # RI does not look at it
        found = _gained(predictions, (model, method), downstream, name)
        if found is None:
            return None
        by_set[name] = found[0], 100 * found[1] / others
    return in_strata(by_set, predictions.sources)


def _gained(
    predictions: Predictions, entry: tuple[str, str], downstream: Sequence[str], name: str
) -> tuple[SetImages, Floats] | None:
    """Return what each image adds to the accuracy on a set over the baseline's.

    Returns:
        (images, len(downstream)); 0 for the set itself as downstream set, which is no part of RI.
    """
    model, method = entry
    kinds = [(BASELINE, None), *((method, one) for one in downstream if one != name)]
    cells = [predictions.cells_of(model, *kind) for kind in kinds]
    if not all(ids and predictions.keeps(ids, name) for ids in cells):
        return None
    base, *tuned = (predictions.mean(ids or [], name) for ids in cells)
    if base is None:
        return None
    gained = np.zeros((len(base.share), len(downstream)))
    for (_, one), images in zip(kinds[1:], tuned, strict=True):
        if images is None:
            return None
        gained[:, downstream.index(str(one))] = images.share - base.share
    return base, gained


def in_strata(
    by_set: Mapping[str, tuple[SetImages, Floats]], sources: Mapping[str, str]
) -> list[Floats]:
    """Add up what each image adds over the sets that show it.

    Args:
        by_set: images of each set, and what they add: (images, m).
        sources: set -> whose images it shows, where they are another set's.

    Returns:
        (images, m) of each stratum, in the order of the sets.
    """
    together: dict[str, list[tuple[SetImages, Floats]]] = {}
    for name, one in by_set.items():
        together.setdefault(sources.get(name, name), []).append(one)
    return [_union(parts) for parts in together.values()]


def _union(parts: Sequence[tuple[SetImages, Floats]]) -> Floats:
    if len(parts) == 1:
        return parts[0][1]
    names = pc.unique(pa.chunked_array([images.names for images, _ in parts]))
    total = np.zeros((len(names), parts[0][1].shape[1]))
    for images, points in parts:
        total[_numbers(pc.index_in(images.names, value_set=names))] += points
    return total


def _by_image(table: pa.Table, splits: Sequence[tuple[str | None, int | None]]) -> SetImages | None:
    """Add up what each image adds to a set's accuracy over its splits; None without one of them."""
    weights = _weights(splits)
    names = pc.replace_substring_regex(table["image"].cast(pa.string()), r"\.[^./]*$", "")
    distinct = pc.unique(names).sort()
    position = _numbers(pc.index_in(names, value_set=distinct))
    split, found = _split_numbers(table)
    if not set(weights) <= set(found):
        return None
    size = np.bincount(split, minlength=len(found))
    weight = np.array([weights.get(key, 0.0) for key in found])
    right = table["correct"].cast(pa.float64()).to_numpy()
    added = right * (weight / size)[split]
    share = np.bincount(position, added, minlength=len(distinct)).astype(np.float64)
    shown = np.bincount(position, weight[split] > 0, minlength=len(distinct))
    return SetImages(distinct, shown.astype(np.int64), share)


def _weights(
    splits: Sequence[tuple[str | None, int | None]],
) -> dict[tuple[str | None, int | None], float]:
    """Return what each split weighs in a set's accuracy: severities first, then corruptions."""
    severities: dict[str | None, set[int | None]] = {}
    for corruption, severity in splits:
        severities.setdefault(corruption, set()).add(severity)
    return {split: 1 / len(severities) / len(severities[split[0]]) for split in splits}


def _split_numbers(
    table: pa.Table,
) -> tuple[NDArray[np.int64], list[tuple[str | None, int | None]]]:
    """Return the number of each row's split, and the splits."""
    corruption, severity = (
        column.combine_chunks().dictionary_encode(null_encoding="encode")
        for column in (table[name] for name in _BY_SPLIT)
    )
    values = severity.dictionary.to_pylist()
    together = _numbers(corruption.indices) * max(len(values), 1) + _numbers(severity.indices)
    numbers, split = np.unique(together, return_inverse=True)
    names = corruption.dictionary.to_pylist()
    return split, [(names[k // len(values)], values[k % len(values)]) for k in numbers]


def _numbers(column: pa.Array | pa.ChunkedArray) -> NDArray[np.int64]:
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.int64)


def cell_keys(cells: Mapping[str, Cell]) -> dict[CellKey, str]:
    """Name the cells of a grid by what tables call them."""
    return {
        (cell.model.name, BASELINE, None, None)
        if cell.is_baseline
        else (cell.model.name, cell.label, cell.seed, cell.downstream): cell_id
        for cell_id, cell in cells.items()
    }


def not_of_these_rows(entry: str) -> UserError:
    """Return what to raise where predictions and counts do not go together."""
    message = "its predictions say something else than its rows"
    return UserError([Problem(entry, message, "rib verify; --counts looks at rows alone")])
