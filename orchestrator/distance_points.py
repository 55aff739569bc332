"""How OTDD goes together with what fine-tuning loses on the ID set. Pure.

The points of the poster's figure: a downstream set's distance from the ID set, and by how many
points a model fine-tuned on it does worse on the ID set than it did as it came.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from orchestrator.correlation import Correlation, correlate
from orchestrator.results import Results
from workers.cell import BASELINE

ENTRY = ["model", "method"]
POINT_COLUMNS = [*ENTRY, "downstream", "otdd", "id_drop"]


def otdd_points(
    accuracies: pd.DataFrame,
    expected: pd.DataFrame,
    id_name: str,
    distances: pd.DataFrame,
) -> pd.DataFrame:
    """Put the distance of each downstream set beside the ID drop after fine-tuning on it.

    Args:
        accuracies: columns model, method, seed, downstream, eval_dataset, accuracy in percent.
        expected: model, method and seed of every entry that there should be.
        id_name: the ID set.
        distances: columns downstream and value, a row per downstream set that was measured.

    Returns:
        POINT_COLUMNS, a row for each entry and downstream set in the order of `expected` and
        `distances`. `id_drop` is the baseline's accuracy on the ID set less the mean over the
        entry's seeds, in points; NaN unless the baseline and every seed have one.
    """
    on_id = accuracies[accuracies["eval_dataset"] == id_name]
    before = on_id[on_id["method"] == BASELINE].groupby("model")["accuracy"].first()
    tuned = on_id[on_id["method"] != BASELINE]
    entries = expected.loc[expected["method"] != BASELINE, [*ENTRY, "seed"]].drop_duplicates()
    wanted = entries.merge(distances[["downstream", "value"]], how="cross")
    values = tuned[[*ENTRY, "seed", "downstream", "accuracy"]]
    joined = wanted.merge(values, how="left", on=[*ENTRY, "seed", "downstream"])
    groups = joined.groupby([*ENTRY, "downstream"], sort=False)
    points = groups.agg(
        otdd=("value", "first"), after=("accuracy", lambda seeds: seeds.mean(skipna=False))
    ).reset_index()
    points["id_drop"] = points["model"].map(before).astype("float64") - points["after"]
    return points[POINT_COLUMNS]


def points_of(results: Results, distances: pd.DataFrame) -> pd.DataFrame:
    """Return the points of a store's own results; see `otdd_points`.

    Args:
        results: of a store.
        distances: as from `orchestrator.distances.distance_frame`.
    """
    expected = results.accuracies if results.expected is None else results.expected
    known = distances[distances["value"].notna()]
    return otdd_points(results.accuracies, expected, results.sets.id, known)


@dataclass(frozen=True)
class EntryCorrelation:
    """How OTDD and the ID drop go together for one model and method."""

    model: str
    method: str
    correlation: Correlation
    missing: tuple[str, ...]
    """Downstream sets without an ID drop."""


def correlations(points: pd.DataFrame) -> Iterator[EntryCorrelation]:
    """Correlate OTDD with the ID drop over the downstream sets, for each model and method.

    Args:
        points: as from `otdd_points`.
    """
    for (model, method), group in points.groupby(ENTRY, sort=False):
        known = group[group["id_drop"].notna()]
        correlation = correlate(known["otdd"].tolist(), known["id_drop"].tolist())
        missing = tuple(group.loc[group["id_drop"].isna(), "downstream"])
        yield EntryCorrelation(str(model), str(method), correlation, missing)
