"""Stores with rows that no model has made, for tests of how they are shown."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from orchestrator.grid import Grid, load_stored_grid
from orchestrator.plan import expand
from workers.cell import Cell
from workers.curve import part_of
from workers.store import Store

MODELS = ("vit_digits", "resnet_digits")
IMAGES = 200
BEGUN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

GRID = """
name: {name}
suite: digits-rib
data_root: /nowhere
models:
  - {{name: vit_digits, digest: 'sha256:{a}', pretraining: "{pretraining}"}}
  - {{name: resnet_digits, digest: 'sha256:{b}'}}
methods: [ft, lwf, {{method: soup, members: [pretrained, ft, lwf]}}]
seeds: {seeds}
recipe: {{epochs: 3, batch_size: 32, precision: fp32}}
resources: {{gpus: {gpus}}}
"""


@dataclass(frozen=True)
class Made:
    """A store, and the counts that were put into it."""

    uri: str
    grid: Grid
    cells: Mapping[str, Cell]
    correct: dict[tuple[str, str, int, str | None, str], int] = field(default_factory=dict)
    """Model, method, seed, downstream set, evaluation set -> right ones of IMAGES per split."""


def make_store(
    folder: Path,
    *,
    name: str = "synthetic",
    pretraining: str = "digits",
    seeds: tuple[int, ...] = (0,),
    gpus: float = 0,
    is_done: Callable[[Cell], bool] = lambda _: True,
    provenance: Mapping[str, Any] | None = None,
) -> Made:
    """Write a grid's store; cells that are not done have neither rows nor tries."""
    text = GRID.format(
        name=name, pretraining=pretraining, seeds=list(seeds), gpus=gpus, a="a" * 64, b="b" * 64
    )
    store = Store(str(folder))
    grid = load_stored_grid(text, store.uri)
    store.create(grid.suite.name, grid.suite.version)
    store.write_grid(text)
    made = Made(store.uri, grid, {cell.cell_id: cell for cell in expand(grid)})
    for cell in made.cells.values():
        if is_done(cell):
            fill(store, made, cell, provenance)
    return made


def attempt_of(cell: Cell, state: str = "done", number: int = 1, **other: Any) -> dict[str, Any]:
    """Return the row of a try."""
    return {
        "cell_id": cell.cell_id,
        "attempt": number,
        "model": cell.model.name,
        "downstream": cell.downstream,
        "method": cell.label,
        "seed": cell.seed,
        "state": state,
        "host": "node-1",
        "gpu": "",
        "seconds": 36.0,
        "peak_memory_bytes": 2**30,
        "started_at": BEGUN,
        "finished_at": BEGUN + timedelta(seconds=36),
    } | other


def fill(store: Store, made: Made, cell: Cell, provenance: Mapping[str, Any] | None = None) -> None:
    """Write all that a cell leaves in a store, but for its weights."""
    rows = []
    for eval_dataset, splits in made.grid.suite.splits().items():
        correct = _correct(cell, eval_dataset)
        key = (cell.model.name, cell.label, cell.seed, cell.downstream, eval_dataset)
        made.correct[key] = correct
        rows += [
            {
                "suite": made.grid.suite.name,
                "model": cell.model.name,
                "downstream": cell.downstream,
                "method": cell.label,
                "seed": cell.seed,
                "cell_id": cell.cell_id,
                "eval_dataset": eval_dataset,
                "corruption": corruption,
                "severity": severity,
                "n_correct": correct,
                "n_correct_unmasked": correct,
                "n_total": IMAGES,
                "n_expected": IMAGES,
                "torch_version": "2.9.0",
                "weights_digest": cell.model.weights,
                "started_at": BEGUN,
                "finished_at": BEGUN + timedelta(seconds=30),
                **(provenance or {}),
            }
            for corruption, severity in splits
        ]
    # As the driver leaves a finished cell: in one file.
    store._commit("accuracy", cell.cell_id, rows)
    store.commit_attempt(attempt_of(cell))
    if cell.recipe is not None:
        epochs = [
            {"cell_id": cell.cell_id, "epoch": k, "loss": 1.5 / k, "n_correct": 60 + 10 * k}
            for k in (1, 2, 3)
        ]
        store.commit_history(cell.cell_id, [{**one, "n_total": 100, "lr": 0.1} for one in epochs])


def add_curves(made: Made, method: str, epochs: Sequence[int] = (0, 1, 2)) -> None:
    """Score a method's cells along training, on half of the images, as `on_curve` says."""
    store = Store(made.uri)
    part = {"subset_fraction": 0.5, "subset_seed": 0}
    for cell in made.cells.values():
        if cell.label != method:
            continue
        rows = [
            {
                "cell_id": cell.cell_id,
                "model": cell.model.name,
                "eval_dataset": name,
                "epoch": epoch,
            }
            | {"corruption": corruption, "severity": severity, "n_total": 100, "n_expected": 100}
            | {"n_correct": on_curve(made, name, epoch, cell.seed), "n_correct_unmasked": 0}
            | {"downstream": cell.downstream, "method": method, "seed": cell.seed}
            | part
            for epoch in epochs
            for name, splits in made.grid.suite.splits().items()
            for corruption, severity in splits
        ]
        for epoch in epochs:
            for name in made.grid.suite.splits():
                own = [row for row in rows if (row["eval_dataset"], row["epoch"]) == (name, epoch)]
                store.commit_accuracy(cell.cell_id, part_of(name, epoch), own)
    store.sweep()


def on_curve(made: Made, name: str, epoch: int, seed: int) -> int:
    """Right ones of 100: each set has its own height, each epoch adds 10, and each seed 2."""
    return list(made.grid.suite.splits()).index(name) + 10 * epoch + 2 * seed


def _correct(cell: Cell, eval_dataset: str) -> int:
    """Return a count between a quarter and all of the images that only names decide."""
    key = (cell.model.name, cell.label, cell.seed, cell.downstream, eval_dataset)
    digest = hashlib.sha256(repr(key).encode()).digest()
    return IMAGES // 4 + int.from_bytes(digest[:4], "big") % (3 * IMAGES // 4 + 1)
