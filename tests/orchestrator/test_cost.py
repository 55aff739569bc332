"""Device-hours by method: seconds x devices / 3600, added up by hand."""

from typing import Any

import pandas as pd
import pytest

from orchestrator.cost import COLUMNS, Cost, cost_of
from orchestrator.demands import Demands
from orchestrator.grid_file import Resources
from tests.cells import make_cell
from workers.cell import BASELINE, Cell
from workers.schemas import ATTEMPTS

PRE, FT, OTHER = make_cell(BASELINE), make_cell("ft"), make_cell("ft", seed=1)
SOUP = make_cell("soup", (FT,))
CELLS = {cell.cell_id: cell for cell in (PRE, FT, OTHER, SOUP)}


def tried(cell: Cell, seconds: float | None, state: str = "done", **other: Any) -> dict[str, Any]:
    own = {"cell_id": cell.cell_id, "attempt": 1, "state": state, "seconds": seconds}
    return dict.fromkeys(ATTEMPTS.names) | own | other


def cost(*tries: dict[str, Any], gpus: float = 0, cpus: float = 1) -> Cost:
    attempts = pd.DataFrame(list(tries), columns=ATTEMPTS.names)
    return cost_of(attempts, CELLS, Demands(Resources(gpus=gpus, cpus=cpus)))


def rows(found: Cost) -> dict[str, dict[str, Any]]:
    return {str(row["method"]): row for row in found.by_method.to_dict("records")}


def test_every_try_counts_also_those_that_failed() -> None:
    found = cost(
        tried(FT, 1800, "failed"),
        tried(FT, 3600, attempt=2),
        tried(OTHER, 900, "diverged"),
        tried(SOUP, 360),
        gpus=2,
    )
    assert found.device == "GPU"
    ft = rows(found)["ft"]
    assert ft["hours"] == pytest.approx(2 * (1800 + 3600 + 900) / 3600)
    assert ft["hours_lost"] == pytest.approx(2 * (1800 + 900) / 3600)
    assert (ft["cells"], ft["tries"]) == (2, 3)
    assert rows(found)["soup"]["hours"] == pytest.approx(0.2)
    assert found.hours == pytest.approx(2 * 6660 / 3600)
    assert found.hours_lost == pytest.approx(1.5)


def test_a_share_of_a_gpu_counts_as_a_share() -> None:
    assert cost(tried(FT, 3600), gpus=0.25).hours == pytest.approx(0.25)


def test_each_cell_counts_with_what_its_own_entries_ask_for() -> None:
    attempts = pd.DataFrame([tried(FT, 3600), tried(SOUP, 3600)], columns=ATTEMPTS.names)
    demands = Demands(Resources(gpus=2), by_method={"soup": Resources(gpus=0, cpus=8)})
    found = rows(cost_of(attempts, CELLS, demands))
    assert {name: row["hours"] for name, row in found.items()} == {"ft": 2.0, "soup": 0.0}


def test_without_gpus_hours_are_of_cpus() -> None:
    found = cost(tried(FT, 1800), cpus=4)
    assert (found.device, found.hours) == ("CPU", pytest.approx(2.0))


def test_a_try_that_still_runs_adds_nothing_but_is_counted() -> None:
    found = rows(cost(tried(FT, None, "running")))["ft"]
    assert (found["hours"], found["tries"]) == (0.0, 1)
    assert pd.isna(found["peak_memory_bytes"])


def test_the_most_memory_of_any_try() -> None:
    first, second = 2**40 + 1, 2**40  # 1 byte apart: no detour through floats
    found = cost(tried(FT, 1, peak_memory_bytes=first), tried(OTHER, 1, peak_memory_bytes=second))
    assert rows(found)["ft"]["peak_memory_bytes"] == first


def test_the_grids_order_and_only_its_cells() -> None:
    stranger = make_cell("stranger")
    found = cost(tried(SOUP, 1), tried(stranger, 1), tried(FT, 1), tried(PRE, 1))
    assert found.by_method["method"].tolist() == [BASELINE, "ft", "soup"]


def test_before_anything_was_tried() -> None:
    found = cost()
    assert list(found.by_method.columns) == COLUMNS
    assert (len(found.by_method), found.hours, found.hours_lost) == (0, 0.0, 0.0)
