"""Checks before the first cell: the data and the weights are there and fit, or nothing starts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator import data_manifest
from orchestrator.apart import apart
from orchestrator.data_manifest import Manifest, SetRecord, read_manifest
from orchestrator.grid import Grid
from orchestrator.paths import expand
from orchestrator.plan import Plan
from workers.cell import Cell, Model, canonical_json
from workers.datasets import Dataset, read_dataset
from workers.datasets.counts import count_problems
from workers.decode import decode
from workers.errors import DataError, Problem, UserError
from workers.method_files import MethodFile
from workers.methods import method_of
from workers.store import Store
from workers.suites import Suite

if TYPE_CHECKING:
    from torch import nn

DECODE_LIMIT = 50_000
"""Up to this many images that no check has decoded yet are decoded now; that takes seconds."""


def preflight(
    grid: Grid, plan: Plan, store: Store | None = None, *, is_lean: bool = False
) -> dict[str, str]:
    """Check what the cells that are to do will read; return the digest of each data set.

    Args:
        grid: that is to be run.
        plan: its cells.
        store: with whose rows the new ones will be compared; None when they need not fit.
        is_lean: whether this process is to stay without PyTorch, which checks of models need.

    Raises:
        UserError: with every problem found in any data set or weights file.
    """
    problems: list[Problem] = []
    datasets = _read_datasets(grid, plan, problems)
    manifest = _read_manifest(grid, problems)
    problems += _unlike_manifest(grid, datasets, manifest)
    problems += _undecodable(grid, datasets, manifest)
    if store is not None:
        # A set that images are left out of has another digest than the whole that is read here.
        whole = [one for one in datasets if one.spec.name not in grid.skip_undecodable]
        problems += _unlike_rows(whole, plan, store)
    cells = _unlike_cells(plan)
    question = (grid.models, grid.suite, grid.data_root, cells, grid.method_files)
    problems += apart(unfit, *question) if is_lean else unfit(*question)
    if problems:
        raise UserError(problems)
    return {one.spec.name: one.digest for one in datasets}


def _read_datasets(grid: Grid, plan: Plan, problems: list[Problem]) -> list[Dataset]:
    if not grid.data_root.is_dir():
        where = f"data_root {grid.data_root}"
        # Of a stored grid a variable may be unset until now.
        if expand(str(grid.data_root), where, problems) is not None:
            problems.append(Problem(where, "there is no such folder"))
        return []
    datasets = []
    for name in sorted(_needed(grid, plan, problems)):
        try:
            spec = grid.suite.dataset(name)
            dataset = read_dataset(grid.suite, spec, grid.data_root, accept_counts=True)
        except DataError as error:
            problems.extend(error.problems)
        else:
            datasets.append(dataset)
            problems.extend(_acceptable(problem, dataset) for problem in count_problems(dataset))
    return datasets


def _needed(grid: Grid, plan: Plan, problems: list[Problem]) -> set[str]:
    """Return the names of the sets that cells are scored on, trained on, or read besides."""
    names: set[str] = set()
    readers: set[str] = set()
    for cell_id in plan.todo:
        node = plan.nodes[cell_id]
        names.update(node.missing)
        if node.has_to_train and node.cell.downstream is not None:
            names.add(node.cell.downstream)
            names.update(node.curve.sets if node.curve is not None else ())
            method = method_of(node.cell)
            if method.reads_id_train(method.config):
                readers.add(node.cell.label)
    if readers and grid.suite.id_train is not None:
        names.add(grid.suite.id_train.name)
    elif readers:
        message = f"reads ID images that no evaluation uses, and {grid.suite.name} has none"
        problems.extend(Problem(f"method {label}", message) for label in sorted(readers))
    return names


def _acceptable(problem: Problem, dataset: Dataset) -> Problem:
    """Say of another number of images than expected how a grid accepts it."""
    key = f"accept_images: {{{dataset.spec.name}: {len(dataset)}}}"
    return replace(problem, hint=f"{problem.hint}; to run all the same, add to the grid {key}")


def _read_manifest(grid: Grid, problems: list[Problem]) -> Manifest:
    path = grid.data_manifest or grid.data_root / data_manifest.DEFAULT
    if grid.data_manifest is not None and not path.exists():
        hint = f"rib data check {grid.suite.name} --root {grid.data_root} --manifest {path}"
        problems.append(Problem(f"data_manifest {path}", "there is no such file", hint))
    try:
        return read_manifest(path)
    except UserError as error:
        problems.extend(error.problems)
        return Manifest()


def _unlike_manifest(grid: Grid, datasets: Iterable[Dataset], manifest: Manifest) -> list[Problem]:
    """Compare data sets with what `rib data check` saw, if it did."""
    problems = []
    for dataset in datasets:
        name = dataset.spec.name
        record = manifest.record(grid.suite.name, name)
        if record is not None and record.digest != dataset.digest:
            message = (
                f"its names or labels are others than on {record.at:%Y-%m-%d}, when they were "
                f"checked: digest {record.digest} then, {dataset.digest} now"
            )
            hint = f"rib data check {grid.suite.name} --root {grid.data_root} --sets {name}"
            problems.append(Problem(f"data set {name}", message, f"check it again: {hint}"))
    return problems


def _undecodable(grid: Grid, datasets: Iterable[Dataset], manifest: Manifest) -> list[Problem]:
    """Decode the sets that no check has decoded, if they are small, and what was bad in others."""
    wanted = [one for one in datasets if one.spec.name not in grid.skip_undecodable]
    checked = {
        one.spec.name: record
        for one in wanted
        if (record := manifest.record(grid.suite.name, one.spec.name)) is not None
        and record.digest == one.digest
        and record.is_decoded
    }
    unknown = [one for one in wanted if one.spec.name not in checked]
    problems = []
    if sum(len(one) for one in unknown) <= DECODE_LIMIT:
        problems += [problem for one in unknown for problem in undecodable(one)]
    for one in wanted:
        if one.spec.name in checked:
            bad = _bad_files(checked[one.spec.name], grid.data_root)
            problems += undecodable(one, bad)
    return problems


def _bad_files(record: SetRecord, root: Path) -> list[Path]:
    return [] if record.decoded is None else [root / bad.file for bad in record.decoded.bad_files]


def undecodable(dataset: Dataset, files: Sequence[Path] | None = None) -> list[Problem]:
    """Decode every image of a data set, or some of them; return a problem for each bad one."""
    if files is None:
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


def _unlike_rows(datasets: Iterable[Dataset], plan: Plan, store: Store) -> list[Problem]:
    """Compare data sets with the copies that the rows of a plan's cells were made on."""
    scan = store.scan("accuracy", ["cell_id", "eval_dataset", "dataset_digest"])
    made_on: dict[str, set[str]] = {}
    for row in scan.table.to_pylist():
        if row["cell_id"] in plan.nodes and row["dataset_digest"] is not None:
            made_on.setdefault(row["eval_dataset"], set()).add(row["dataset_digest"])
    hint = "their rows must not be compared: name another store, or run with --mixed-data"
    return [
        Problem(
            f"data set {one.spec.name}",
            f"rows in the store are of another copy of it: digest {', '.join(sorted(digests))} "
            f"there, {one.digest} here",
            hint,
        )
        for one in datasets
        if (digests := made_on.get(one.spec.name, set()) - {one.digest})
    ]


def _unlike_cells(plan: Plan) -> list[Cell]:
    """Return a cell for each model, and method with its hyper-parameters, that are to be used."""
    found: dict[tuple[str, str, str], Cell] = {}
    for cell_id in plan.todo:
        cell = plan.nodes[cell_id].cell
        which = (cell.model.name, cell.label, canonical_json(dict(cell.hyperparameters)))
        found.setdefault(which, cell)
    return [found[which] for which in sorted(found)]


def unfit(
    models: Iterable[Model],
    suite: Suite,
    data_root: Path,
    cells: Sequence[Cell],
    method_files: Iterable[MethodFile] = (),
) -> list[Problem]:
    """Say what does not fit of the models of cells, or else of the methods used on them.

    Args:
        models: of the grid.
        suite: of the grid.
        data_root: where weights files may be.
        cells: one for each model, and method with its hyper-parameters, that are to be used.
        method_files: where methods are that are not built in.
    """
    for file in method_files:
        file.adopt()
    names = {cell.model.name for cell in cells}
    used = [model for model in models if model.name in names]
    problems = [one for model in used for one in unfit_model(model, suite, data_root)]
    return problems or _unfit_methods(used, cells)


def _unfit_methods(models: Iterable[Model], cells: Sequence[Cell]) -> list[Problem]:
    """Say which methods cannot be used on which models that they are to be used on."""
    import torch

    from workers.models import create

    problems = []
    for model in models:
        with torch.device("meta"):
            module = create(model)
        for cell in (cell for cell in cells if cell.model.name == model.name):
            method = method_of(cell)
            if reason := method.unfit(method.config, module):
                problem = Problem(f"method {cell.label!r} on model {model.name!r}", reason)
                problems += [problem] if problem not in problems else []
    return problems


def unfit_model(model: Model, suite: Suite, data_root: Path) -> list[Problem]:
    """Say what about a model does not fit: its arguments, weights, transform, or the suite.

    Nothing is loaded: the architecture is built without numbers, of weights files the names and
    shapes are read, and published weights have to be on this machine.
    """
    import torch

    from workers.models import check_head, check_weights, create

    where = f"models entry {model.name!r}"
    try:
        with torch.device("meta"):
            module = create(model).eval()
            n_outputs = module.num_classes
    except Exception as error:  # whatever the architecture's own code makes of bad arguments
        message = f"{model.architecture} cannot be built with {dict(model.arguments)}: {error}"
        return [Problem(where, message)]
    if model.file is not None and (problems := check_weights(model, data_root)):
        return problems
    n_classes = len(suite.space)
    if n_outputs != n_classes:
        message = f"it has {n_outputs} outputs, {suite.name} has {n_classes} classes"
        return [Problem(where, message)]
    problems = [*check_head(model, module), *_unfit_transform(model, module)]
    return problems if model.file is not None else [*problems, *check_weights(model, data_root)]


def _unfit_transform(model: Model, module: nn.Module) -> list[Problem]:
    """Try an image of the transform's size on a model that has no numbers."""
    import torch

    from workers.models import create, transform_of

    where = f"models entry {model.name!r}"
    size = transform_of(model, module).input_size
    if size[0] != 3:
        return [Problem(where, f"its transform makes {size[0]} channels, images have 3")]
    try:
        module(torch.empty(1, *size, device="meta"))
        return []
    except Exception:  # this, or something that cannot be done without numbers
        real = create(model).eval()
    try:
        with torch.no_grad():
            real(torch.zeros(1, *size))
        return []
    except Exception as error:  # whatever the architecture's own code makes of it
        hint = "input_size is part of 'transform'"
        shown = " x ".join(map(str, size))
        message = f"{model.architecture} does not take images of {shown}: {error}"
        return [Problem(where, message, hint)]
