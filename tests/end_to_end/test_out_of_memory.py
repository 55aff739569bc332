"""A cell that runs out of memory is tried again with less of it, and its numbers stay the same."""

from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.driver import Driver
from orchestrator.executor import InlineExecutor, Job, Outcome
from orchestrator.plan import Node, Plan
from tests.embedded import cell_of, embedded_model
from workers.cell import Cell
from workers.job import Site
from workers.run import execute, perform_cell
from workers.store import Store

SETS = ("val", "a")
COUNTS = ("n_correct", "n_correct_unmasked", "n_total", "loss")
TIMES = ("started_at", "finished_at", "attempt")


def run(cell: Cell, site: Site, needed: int = 1) -> list[dict[str, Any]]:
    """Run a cell on a GPU whose memory suffices for batches in that many parts, so to speak."""

    def perform(job: Job, site: Site, store: Store) -> int:
        if job.micro_batches_at(site) < needed:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return perform_cell(job, site, store)

    def work(job: Job, site: Site) -> Outcome:
        return execute(job, site, perform)

    plan = Plan({cell.cell_id: Node(cell, SETS, SETS, False, 0, 0)}, frozenset({cell.cell_id}))
    store = Store(site.store)
    assert Driver(plan, InlineExecutor(site, work), store).run().ok
    rows: list[dict[str, Any]] = store.scan("accuracy").table.to_pylist()
    return sorted(rows, key=lambda row: str(row["eval_dataset"]))


@pytest.mark.slow
def test_micro_batches_change_no_number_but_by_rounding(digits_root: Path, tmp_path: Path) -> None:
    cell = cell_of("ft", embedded_model("vit_digits", digits_root))
    enough = Site(str(tmp_path / "enough"), str(digits_root))
    short = Site(str(tmp_path / "short"), str(digits_root), micro_batches=2, loader_workers=3)
    whole, cut = run(cell, enough), run(cell, short, needed=8)
    assert len(whole) == len(cut) == len(SETS)
    for one, other in zip(whole, cut, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)
        assert abs(other["n_correct"] - one["n_correct"]) <= 1, "an image on the border, at most"
        for name in set(one) - {*COUNTS, *TIMES}:
            assert one[name] == other[name], name
    trained, in_parts = (Store(s.store).scan("history").table.to_pylist() for s in (enough, short))
    for one, other in zip(trained, in_parts, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)

    tries = Store(short.store).scan("attempts").table.to_pylist()
    assert [(row["state"], row["error_kind"]) for row in tries] == [
        ("failed", "cuda_oom"),
        ("failed", "cuda_oom"),
        ("done", None),
    ]
    assert [row["micro_batches"] for row in tries] == [2, 4, 8]
    assert {row["loader_workers"] for row in tries} == {3}
    assert {row["memory_bytes"] for row in tries} == {None}
