"""Small cells and rows for tests of what does not care how a model is made."""

from typing import Any

from workers.cell import BASELINE, Cell, Model

MODEL = Model(name="m", architecture="a", weights="timm:none")


def make_cell(label: str = "ft", parents: tuple[Cell, ...] = (), seed: int = 0) -> Cell:
    is_baseline = label == BASELINE
    return Cell(
        suite="s",
        suite_version="1",
        model=MODEL,
        method=BASELINE if is_baseline else "ft",
        method_version=1,
        label=label,
        downstream=None if is_baseline else "v2",
        hyperparameters={} if is_baseline else {"label": label},
        seed=seed,
        parents=parents,
    )


def row(cell_id: str, eval_dataset: str = "val", **other: Any) -> dict[str, Any]:
    """Make an accuracy row; columns that are not given are null."""
    return {
        "suite": "s",
        "model": "m",
        "method": "ft",
        "seed": 0,
        "cell_id": cell_id,
        "eval_dataset": eval_dataset,
        "n_correct": 3,
        "n_total": 4,
    } | other
