"""Where a grid's numbers come from: software, machines, data and weights, as its rows say. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

SOFTWARE = ["rib_version", "git_commit", "torch_version", "timm_version", "ray_version"]
ACCURACY_COLUMNS = [
    "cell_id",
    "model",
    "eval_dataset",
    *SOFTWARE,
    "precision",
    "device",
    "dataset_digest",
    "transform_digest",
    "weights_digest",
    "started_at",
    "finished_at",
]
"""Of the store's accuracy rows, what is looked at here."""

ATTEMPT_COLUMNS = ["cell_id", "host", "gpu"]
"""Of the store's tries, what is looked at here."""

Counts = Mapping[str, int]
"""Value -> how many rows have it, the most frequent first."""


@dataclass(frozen=True)
class Origin:
    """What rows say of how they were made. More than one value is no error, but worth a look."""

    n_rows: int
    software: Mapping[str, Counts]
    """Of each of SOFTWARE, precision and device: its values, counted in accuracy rows."""
    machines: Mapping[str, Counts]
    """host and gpu, counted in tries."""
    datasets: Mapping[str, Counts]
    """Evaluation set -> digests of its images."""
    models: Mapping[str, tuple[Counts, Counts]]
    """Model -> digests of its weights, and of its transform."""
    first: pd.Timestamp | None
    """When the first row was begun; None where none is there."""
    last: pd.Timestamp | None
    """When the last row was finished."""


def origin_of(rows: pd.DataFrame, attempts: pd.DataFrame) -> Origin:
    """Count what accuracy rows and tries say of their origin.

    Args:
        rows: ACCURACY_COLUMNS of the rows that are reported on.
        attempts: ATTEMPT_COLUMNS of the tries at their cells.
    """
    return Origin(
        n_rows=len(rows),
        software={name: _counts(rows[name]) for name in [*SOFTWARE, "precision", "device"]},
        machines={name: _counts(attempts[name]) for name in ("host", "gpu")},
        datasets={
            str(name): _counts(group["dataset_digest"])
            for name, group in rows.groupby("eval_dataset", sort=False)
        },
        models={
            str(name): (_counts(group["weights_digest"]), _counts(group["transform_digest"]))
            for name, group in rows.groupby("model", sort=False)
        },
        first=None if rows["started_at"].isna().all() else rows["started_at"].min(),
        last=None if rows["finished_at"].isna().all() else rows["finished_at"].max(),
    )


def _counts(values: pd.Series) -> Counts:
    """Count values; null and "" stand for nothing."""
    known = (str(value) for value in values.dropna() if value != "")
    return dict(Counter(known).most_common())
