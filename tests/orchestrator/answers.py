"""Made-up answers of models, image by image, as predictions and as the counts that follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from orchestrator.accuracies import ACCURACY_COLUMNS, IMAGES, Splits
from orchestrator.contamination import Contamination
from orchestrator.paired import CellKey, Predictions
from orchestrator.remarks import Remarks
from orchestrator.results import Results
from orchestrator.set_names import SetNames

SETS = SetNames("id", ("a", "b", "c"))
SPLITS: Splits = {
    "id": [(None, None)],
    "a": [(None, None)],
    "b": [(None, None)],
    "c": [("fog", 1), ("fog", 2), ("noise", 1)],
}
SHARED = {"b": "id", "c": "id"}
"""Sets b and c show the images of the ID set."""
IMAGES_OF = {"id": 60, "a": 40, "b": 60, "c": 60}

Answers = Mapping[CellKey, Mapping[str, NDArray[np.bool_]]]
"""Cell -> set -> (splits, images): whether it is right."""


@dataclass(frozen=True)
class World:
    answers: Answers

    def accuracy(self, key: CellKey, name: str) -> float:
        """In percent: the mean over severities, then over corruptions."""
        right = self.answers[key][name].mean(axis=1)
        by_corruption: dict[str | None, list[float]] = {}
        for (corruption, _), share in zip(SPLITS[name], right, strict=True):
            by_corruption.setdefault(corruption, []).append(share)
        return 100 * float(np.mean([np.mean(shares) for shares in by_corruption.values()]))

    @property
    def accuracies(self) -> pd.DataFrame:
        rows = [
            (m, x, s or 0, d, j, self.accuracy((m, x, s, d), j), right.shape[1])
            for (m, x, s, d), by_set in self.answers.items()
            for j, right in by_set.items()
        ]
        return pd.DataFrame(rows, columns=[*ACCURACY_COLUMNS, IMAGES])

    @property
    def predictions(self) -> Predictions:
        cells = {key: "-".join(map(str, key)) for key in self.answers}
        tables = {
            (cells[key], name): _table(name, right)
            for key, by_set in self.answers.items()
            for name, right in by_set.items()
        }
        kept = {cell_id: list(SETS.names) for cell_id in cells.values()}
        return Predictions(SETS, SPLITS, SHARED, cells, kept, lambda c, j: tables[c, j])

    def results(self, predictions: Predictions | None = None) -> Results:
        entries = [(m, x, s) for m, x, s, _ in self.answers if s is not None]
        expected = pd.DataFrame(entries, columns=["model", "method", "seed"]).drop_duplicates()
        shared = {"b": ("id", "c"), "c": ("id", "b")}
        remarks = Remarks((), Contamination(shared, {"id": ("b", "c")}), "masked")
        results = Results("store", self.accuracies, SETS, expected, remarks=remarks)
        return replace(results, sources=SHARED, predictions=predictions)


def world(
    entries: Mapping[tuple[str, str], float],
    seed: int = 0,
    seeds: Sequence[int] = (0,),
    noise: float = 0.1,
    sizes: Mapping[str, int] = IMAGES_OF,
) -> World:
    """Answers of entries that agree on what is hard: the less noise, the more.

    Args:
        entries: model and method -> how far above its model's 0.5 it is.
        seed: of the generator.
        seeds: of the entries.
        noise: standard deviation of what an image's difficulty is to a single cell.
        sizes: images of each set.
    """
    generator = np.random.default_rng(seed)
    hard = {name: generator.random(sizes[name]) for name in SETS.names}

    def cell(share: float) -> dict[str, NDArray[np.bool_]]:
        return {
            name: hard[name] + generator.normal(0, noise, (len(SPLITS[name]), sizes[name])) < share
            for name in SETS.names
        }

    answers: dict[CellKey, Mapping[str, NDArray[np.bool_]]] = {
        (model, "pretrained", None, None): cell(0.5) for model, _ in entries
    }
    for (model, method), gain in entries.items():
        for one in seeds:
            for downstream in SETS.ood:
                answers[model, method, one, downstream] = cell(0.5 + gain)
    return World(answers)


def _table(name: str, right: NDArray[np.bool_]) -> pa.Table:
    """A table of predictions, its rows in no order."""
    splits, images = right.shape
    order = np.random.default_rng(images).permutation(splits * images)
    rows = [
        (SPLITS[name][s][0], SPLITS[name][s][1], f"k/{x}.{name}", bool(right[s, x]))
        for s, x in zip(*np.unravel_index(order, right.shape), strict=True)
    ]
    corruption, severity, image, correct = zip(*rows, strict=True)
    return pa.table(
        {
            "corruption": pa.array(corruption, pa.string()),
            "severity": pa.array(severity, pa.int64()),
            "image": pa.array(image, pa.string()),
            "correct": pa.array(correct, pa.bool_()),
        }
    )
