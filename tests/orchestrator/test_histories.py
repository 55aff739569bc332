"""Training curves: means over seeds, epoch by epoch."""

from typing import Any

import pandas as pd
import pytest

from orchestrator.histories import COLUMNS, training_curves
from tests.cells import make_cell

FIRST, SECOND, OTHER = make_cell("ft"), make_cell("ft", seed=1), make_cell("lwf")
CELLS = {cell.cell_id: cell for cell in (FIRST, SECOND, OTHER)}
NAMES = ["cell_id", "epoch", "loss", "n_correct", "n_total"]


def curves(*rows: tuple[Any, ...]) -> pd.DataFrame:
    return training_curves(pd.DataFrame(list(rows), columns=NAMES), CELLS)


def test_the_mean_over_the_seeds_that_are_there() -> None:
    found = curves(
        (SECOND.cell_id, 1, 3.0, 30, 40),
        (FIRST.cell_id, 2, 0.5, 90, 100),
        (FIRST.cell_id, 1, 1.0, 50, 100),
    )
    assert list(found.columns) == COLUMNS
    one, two = found.to_dict("records")
    assert (one["model"], one["method"], one["downstream"]) == ("m", "ft", "v2")
    # Seeds of unequal size count alike: (50% + 75%) / 2.
    assert (one["epoch"], one["loss"], one["accuracy"], one["seeds"]) == (1, 2.0, 62.5, 2)
    assert (two["epoch"], two["loss"], two["accuracy"], two["seeds"]) == (2, 0.5, 90.0, 1)


def test_methods_are_kept_apart_and_strangers_left_out() -> None:
    stranger = make_cell("stranger")
    found = curves(
        *((cell.cell_id, 1, 1.0, 1, 2) for cell in (FIRST, OTHER, stranger)),
    )
    assert found["method"].tolist() == ["ft", "lwf"]
    assert found["accuracy"].tolist() == pytest.approx([50.0, 50.0])


def test_nothing_was_trained() -> None:
    assert curves().empty
    assert list(curves().columns) == COLUMNS
