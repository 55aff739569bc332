"""What rows say of where they are from, counted."""

from typing import Any

import pandas as pd

from orchestrator.origin import ACCURACY_COLUMNS, ATTEMPT_COLUMNS, Origin, origin_of

EARLY, LATE = pd.Timestamp("2026-01-01", tz="UTC"), pd.Timestamp("2026-01-03", tz="UTC")


def row(**other: Any) -> dict[str, Any]:
    own = {"cell_id": "x", "model": "m", "eval_dataset": "val", "started_at": LATE}
    return dict.fromkeys(ACCURACY_COLUMNS) | own | {"finished_at": LATE} | other


def origin(rows: list[dict[str, Any]], tries: list[dict[str, Any]] | None = None) -> Origin:
    attempts = pd.DataFrame(tries or [], columns=ATTEMPT_COLUMNS)
    return origin_of(pd.DataFrame(rows, columns=ACCURACY_COLUMNS), attempts)


def test_values_are_counted_the_most_frequent_first() -> None:
    found = origin([row(torch_version=v) for v in ("2.8", "2.9", "2.9")])
    assert list(found.software["torch_version"].items()) == [("2.9", 2), ("2.8", 1)]
    assert found.n_rows == 3


def test_what_is_not_recorded_is_not_a_value() -> None:
    found = origin([row(git_commit=None), row(git_commit="")], [{"host": "a", "gpu": ""}])
    assert found.software["git_commit"] == {}
    assert found.machines == {"host": {"a": 1}, "gpu": {}}


def test_digests_by_set_and_by_model() -> None:
    found = origin(
        [
            row(dataset_digest="d1", weights_digest="w1", transform_digest="t1"),
            row(dataset_digest="d2", eval_dataset="a", weights_digest="w1", transform_digest="t1"),
            row(dataset_digest="d3", eval_dataset="a", model="n", weights_digest="w2"),
        ]
    )
    assert found.datasets == {"val": {"d1": 1}, "a": {"d2": 1, "d3": 1}}
    assert found.models == {"m": ({"w1": 2}, {"t1": 2}), "n": ({"w2": 1}, {})}


def test_when_rows_were_made() -> None:
    found = origin([row(started_at=LATE), row(started_at=EARLY)])
    assert (found.first, found.last) == (EARLY, LATE)


def test_before_there_is_any_row() -> None:
    found = origin([])
    assert (found.n_rows, found.first, found.last) == (0, None, None)
    assert found.datasets == {}
    assert found.software["device"] == {}
