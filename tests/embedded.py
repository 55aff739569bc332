"""Cells of the embedded suite and their workbenches, for tests on real models and images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from workers.bench import Bench
from workers.cell import BASELINE, Cell, Model
from workers.digests import file_digest
from workers.job import Job, Site
from workers.methods import methods
from workers.models import create
from workers.recipe import Recipe
from workers.run import make_model
from workers.store import Store
from workers.suites import suites

SUITE = suites()["digits-rib"]
FAST = Recipe(lr=1e-2, warmup_steps=0, epochs=1, batch_size=32, precision="fp32")


def embedded_model(name: str, data_root: Path) -> Model:
    """One of the suite's two models, as a plan would have it."""
    (found,) = (model for model in SUITE.models if model.name == name)
    return replace(found, weights=file_digest(data_root / str(found.file)))


def cell_of(
    method: str,
    model: Model,
    recipe: Recipe = FAST,
    downstream: str = "a",
    seed: int = 0,
    **hyperparameters: Any,
) -> Cell:
    """The cell that a grid would make of a method, with its parents."""
    kind = methods()[method]
    config = kind.Config.model_validate(hyperparameters)
    starts = kind.starts_from(config)
    return Cell(
        suite=SUITE.name,
        suite_version=SUITE.version,
        model=model,
        method=method,
        method_version=kind.version,
        label=method,
        downstream=None if method == BASELINE else downstream,
        hyperparameters=config.model_dump(mode="json"),
        recipe=recipe.model_dump(mode="json") if kind.trains else None,
        seed=seed,
        parents=tuple(cell_of(start, model, recipe, downstream, seed) for start in starts),
    )


def fitting_pairs() -> Iterator[tuple[str, Model]]:
    """Every method on every model of the suite that it can be used on."""
    for model in SUITE.models:
        module = create(model)
        for name, kind in sorted(methods().items()):
            if not kind.unfit(kind.Config(), module):
                yield name, model


def bench_of(cell: Cell, data_root: Path, store: Path) -> Bench:
    """A cell's workbench on this machine."""
    return Bench(Job(cell, ()), Site(str(store), str(data_root)), Store(str(store)))


def made(cell: Cell, data_root: Path, store: Path) -> nn.Module:
    """Make a cell's model, and those that it starts from, and leave their weights in the store."""
    for parent in cell.parents:
        if not parent.is_baseline and not Store(str(store)).has_checkpoint(parent.cell_id):
            made(parent, data_root, store)
    with deterministic():
        return make_model(bench_of(cell, data_root, store))


def images_of(bench: Bench) -> tuple[torch.Tensor, torch.Tensor]:
    """All images of a cell's downstream set, normalised, with their labels."""
    _, source = bench.downstream()
    (batch,) = source.batches(torch.arange(len(source)), len(source))
    return bench.normalise(batch.pixels), batch.labels


@contextmanager
def deterministic() -> Iterator[None]:
    """Compute with deterministic algorithms, as a worker does, and as before afterwards."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)
