"""A store of the embedded suite with drawn counts: what reads a store needs no trained models."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from orchestrator.grid import Grid, resolve_grid
from orchestrator.plan import expand
from orchestrator.yaml_source import parse_yaml
from workers.cell import Cell
from workers.curve import part_of
from workers.rows import describe
from workers.store import Store
from workers.suites import suites

SUITE = suites()["digits-rib"]

GRID = """
name: drawn
suite: digits-rib
data_root: {root}
models: [vit_digits, resnet_digits]
downstream: all
methods: [ft, lwf, {{method: soup, members: [pretrained, ft, lwf]}}]
recipe: {{warmup_steps: 1, epochs: 2, batch_size: 64, precision: fp32}}
"""

EPOCHS = 2
START = datetime(2026, 1, 1, tzinfo=UTC)


def drawn_store(folder: Path, data_root: Path, text: str = GRID) -> Store:
    """Fill a store with every row of a grid, by default of 2 models, 8 sets, 3 methods: 50 cells.

    Each set of each cell has all of its splits. The first cell that was trained has rows of its
    epochs on the ID set besides.
    """
    store = Store(str(folder))
    grid = drawn_grid(data_root, store.uri, text)
    store.create(SUITE.name, SUITE.version)
    store.write_grid(grid.to_yaml())
    for cell in expand(grid):
        fill(store, cell)
    first = next(cell for cell in expand(grid) if cell.recipe is not None)
    name = SUITE.id.name
    for epoch in (1, 2):
        part = {"epoch": epoch, "subset_fraction": 0.5, "subset_seed": 0}
        row = describe(first) | {"eval_dataset": name} | part | counts(first, f"{name}{epoch}")
        store.commit_accuracy(first.cell_id, part_of(name, epoch), [row])
    store.sweep()
    return store


def drawn_grid(data_root: Path, store: str, text: str) -> Grid:
    return resolve_grid(parse_yaml(text.format(root=data_root), "drawn.yaml"), store)


def fill(store: Store, cell: Cell) -> None:
    """Commit a cell's rows, its training and its one try."""
    for name, pairs in SUITE.splits().items():
        rows = [
            describe(cell)
            | {"eval_dataset": name, "corruption": corruption, "severity": severity}
            | counts(cell, f"{name}{corruption}{severity}")
            for corruption, severity in pairs
        ]
        store.commit_accuracy(cell.cell_id, name, rows)
    store.seal(cell.cell_id, list(SUITE.splits()))
    if cell.recipe is not None:
        epochs = range(1, EPOCHS + 1)
        history = [{"epoch": e, "loss": 1 / e, "n_correct": 50 + e, "n_total": 100} for e in epochs]
        store.commit_history(cell.cell_id, [{"cell_id": cell.cell_id} | h for h in history])
    names = ("cell_id", "model", "downstream", "method", "seed")
    tried = {name: describe(cell)[name] for name in names}
    ended = {"state": "done", "seconds": 2.5, "finished_at": START + timedelta(seconds=2.5)}
    store.commit_attempt(tried | {"attempt": 1, "started_at": START} | ended)


def counts(cell: Cell, split: str) -> dict[str, Any]:
    """Draw what a cell scores on a split: always the same."""
    draw = random.Random(f"{cell.cell_id} {split}")
    total = draw.randint(50, 150)
    return {
        "n_correct": draw.randint(0, total),
        "n_correct_unmasked": draw.randint(0, total),
        "n_total": total,
        "n_expected": total,
        "loss": draw.random(),
        "dataset_digest": SUITE.name,
        "weights_digest": cell.model.name,
        "device": "cpu",
        "started_at": START,
        "finished_at": START,
    }
