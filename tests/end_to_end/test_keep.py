"""Checkpoints of a real grid: which ones are left, and what a later change of the grid needs."""

from pathlib import Path

import pandas as pd
import pytest

from orchestrator.grid import load_grid
from orchestrator.report.plans import plan_summary
from orchestrator.sweep import read_estimates, read_plan, run
from workers.store import Store

GRID = """
name: keep
suite: digits-rib
data_root: {root}
store: {store}
models: [resnet_digits]
downstream: [v2]
methods: {methods}
evaluate: [v2]
keep: {keep}
recipe: {{warmup_steps: 2, epochs: 1, batch_size: 32, precision: fp32}}
"""
SOUP = "{method: soup, members: [pretrained, ft]}"


@pytest.mark.slow
def test_what_is_not_kept_is_trained_again_only_when_it_is_needed(
    digits_root: Path, tmp_path: Path
) -> None:
    store = Store(str(tmp_path / "store"))

    def grid(keep: str, *methods: str) -> Path:
        path = tmp_path / "grid.yaml"
        listed = f"[{', '.join(methods)}]"
        path.write_text(GRID.format(root=digits_root, store=store.uri, methods=listed, keep=keep))
        return path

    def left(path: Path) -> list[str]:
        cells = read_plan(load_grid(path)).nodes
        return sorted(cells[c].cell.label for c in store.committed().checkpoints if c in cells)

    def rows() -> pd.DataFrame:
        found = pd.read_parquet(f"{store.uri}/accuracy")
        return found.set_index("method")[["n_correct", "loss"]]

    needed = grid("needed", "ft", SOUP)
    assert run(load_grid(needed), executor="inline").ok
    assert left(needed) == ["soup"]
    first = rows()
    assert run(load_grid(needed), executor="inline").n_run == 0, "nothing needs what was deleted"

    more = grid("needed", "ft", SOUP, "wise-ft")
    plan = read_plan(load_grid(more))
    estimates = read_estimates(load_grid(more), plan)
    summary = plan_summary(load_grid(more), plan, estimates)
    again = [plan.nodes[cell_id].cell.label for cell_id in summary["train_again"]]
    assert again == ["ft"]
    assert run(load_grid(more), executor="inline").ok
    assert left(more) == ["soup", "wise-ft"]
    assert rows().loc[first.index].equals(first)

    # A grid that is done and keeps less now is cleared by running it.
    nothing = grid("none", "ft", SOUP, "wise-ft")
    assert run(load_grid(nothing), executor="inline").n_run == 0
    assert left(nothing) == []
    assert run(load_grid(nothing), executor="inline").n_run == 0
