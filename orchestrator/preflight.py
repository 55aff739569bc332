"""Checks before the first cell: the data and the weights are there and fit, or nothing starts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from orchestrator.grid import Grid
from orchestrator.plan import Plan
from workers.cell import Model
from workers.datasets import Dataset, read_dataset
from workers.decode import decode
from workers.errors import DataError, Problem, UserError
from workers.suites import Suite

DECODE_LIMIT = 50_000
"""A suite of at most this many images is decoded whole; that takes seconds."""


def preflight(grid: Grid, plan: Plan) -> None:
    """Check what the cells that are to do will read.

    Raises:
        UserError: with every problem found in any data set or weights file.
    """
    problems: list[Problem] = []
    datasets = _read_datasets(grid, plan, problems)
    if sum(len(dataset) for dataset in datasets) <= DECODE_LIMIT:
        for dataset in datasets:
            if dataset.spec.name not in grid.skip_undecodable:
                problems += undecodable(dataset)
    problems += _unfit_models(grid, plan)
    if problems:
        raise UserError(problems)


def _read_datasets(grid: Grid, plan: Plan, problems: list[Problem]) -> list[Dataset]:
    if not grid.data_root.is_dir():
        problems.append(Problem(f"data_root {grid.data_root}", "there is no such folder"))
        return []
    names: set[str] = set()
    for cell_id in plan.todo:
        node = plan.nodes[cell_id]
        names.update(node.missing)
        if node.training_images and node.cell.downstream is not None:
            names.add(node.cell.downstream)
    datasets = []
    for name in sorted(names):
        try:
            datasets.append(read_dataset(grid.suite, grid.suite.dataset(name), grid.data_root))
        except DataError as error:
            problems.extend(error.problems)
    return datasets


def undecodable(dataset: Dataset) -> list[Problem]:
    """Decode every image of a data set; return a problem for each that does not."""
    files = [split.folder / name for split in dataset.splits for name in split.files]
    with ThreadPoolExecutor() as pool:
        found = pool.map(lambda path: _decode_problem(path, dataset.border), files, chunksize=64)
        return [problem for problem in found if problem is not None]


def _decode_problem(path: Path, border: int) -> Problem | None:
    try:
        decode(path, border)
    except DataError as error:
        return error.problems[0]
    return None


def _unfit_models(grid: Grid, plan: Plan) -> list[Problem]:
    used = {plan.nodes[cell_id].cell.model.name for cell_id in plan.todo}
    return [
        problem
        for model in grid.models
        if model.name in used
        for problem in unfit_model(model, grid.suite, grid.data_root)
    ]


def unfit_model(model: Model, suite: Suite, data_root: Path) -> list[Problem]:
    """Build a model without its weights; say what does not fit it, its file or the suite."""
    import torch

    from workers.models import check_digest, check_weights, create

    where = f"models entry {model.name!r}"
    try:
        with torch.device("meta"):
            n_outputs = create(model).num_classes
    except Exception as error:  # whatever the architecture's own code makes of bad arguments
        message = f"{model.architecture} cannot be built with {dict(model.arguments)}: {error}"
        return [Problem(where, message)]
    if problems := (check_weights(model, data_root) or check_digest(model, data_root)):
        return problems
    n_classes = len(suite.space)
    if n_outputs != n_classes:
        message = f"it has {n_outputs} outputs, {suite.name} has {n_classes} classes"
        return [Problem(where, message)]
    return []
