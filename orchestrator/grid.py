"""A grid: YAML -> frozen Grid, with every error reported at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from orchestrator.demands import Demands
from orchestrator.distance_keys import Distance, check_distance
from orchestrator.evaluation_keys import resolve_curve, resolve_predictions
from orchestrator.extensions import resolve_method_files, resolve_suite
from orchestrator.grid_file import (
    GridFile,
    ImageCache,
    Keep,
    ModelEntry,
    Resources,
    Throughput,
    parse_grid_file,
)
from orchestrator.grid_methods import MethodEntry, check_recipe, resolve_methods
from orchestrator.grid_models import UNMADE, identify, resolve_models, written
from orchestrator.grid_tune import Key, check_tune, choose, resolve_choices
from orchestrator.paths import expand, for_each_machine
from orchestrator.tune_keys import ChoiceEntry, Tune
from orchestrator.yaml_source import Document, parse_yaml, read_yaml
from workers.cell import BASELINE, Model
from workers.curve import Curve
from workers.errors import Problem, UserError, nearest
from workers.method_files import MethodFile
from workers.methods import MethodConfig, methods
from workers.predictions import TOP
from workers.recipe import Recipe
from workers.suites import Suite


@dataclass(frozen=True)
class Grid:
    """Which cells to run, on what, with what."""

    name: str
    suite: Suite
    data_root: Path
    store: str
    models: tuple[Model, ...]
    downstream: tuple[str, ...]
    methods: tuple[MethodEntry, ...]
    seeds: tuple[int, ...]
    recipe: Recipe
    evaluate: tuple[str, ...]
    resources: Resources
    entries: tuple[ModelEntry, ...] = field(default=(), repr=False)
    """The model entries as they were written."""
    acknowledge: tuple[str, ...] = ()
    """Licence clauses that the user knows of, by name."""
    throughput: Mapping[str, Throughput] = field(default_factory=dict)
    """Images per second of models, as far as the user gives them."""
    skip_undecodable: tuple[str, ...] = ()
    """Sets that are scored and trained on without their images that do not decode."""
    accept_images: Mapping[str, int] = field(default_factory=dict)
    """Sets that are to have another number of images than the published one, and which."""
    data_manifest: Path | None = None
    """What `rib data check` wrote, if not below the data root."""
    distance: Distance = field(default_factory=Distance)
    """How `rib distance` measures how far the downstream sets are from the ID set."""
    tune: Tune | None = None
    """What `rib tune` searches for, and how."""
    choices: Mapping[Key, ChoiceEntry] = field(default_factory=dict)
    """Values that some cells have in place of the grid's."""
    image_cache: ImageCache | None = None
    """Where each machine keeps decoded images; its folder as it is filled in there."""
    score_together: int = 1
    """How many models that only have to be scored go through a set in one pass."""
    keep: Keep = "all"
    """Which checkpoints stay once they are needed no longer."""
    min_free: int = 2**30
    """Bytes of the store's disk that are to stay free."""
    method_files: tuple[MethodFile, ...] = ()
    """Methods in files of the user's."""
    data_template: str = ""
    """The data root as it is filled in on each machine; empty where it is the same on all."""
    curve: Curve | None = None
    """What is evaluated while cells are trained."""
    predictions: tuple[str, ...] = ()
    """Evaluation sets whose predictions are kept, image by image."""
    top_classes: int = TOP
    """How many of the most probable classes are kept with each."""

    @property
    def data_on_nodes(self) -> str:
        """The data root as another machine has to be told it."""
        return self.data_template or str(self.data_root)

    @cached_property
    def demands(self) -> Demands:
        """What its cells ask for."""
        return Demands(
            self.resources,
            {entry.name: entry.resources for entry in self.entries if entry.resources is not None},
            {one.label: one.resources for one in self.methods if one.resources is not None},
        )

    @property
    def is_made(self) -> bool:
        """Whether every weights file is there."""
        return all(model.weights != UNMADE for model in self.models)

    def method(self, label: str) -> MethodEntry:
        """Return the method of a label: the grid's own, or any other with its defaults."""
        for entry in self.methods:
            if entry.label == label:
                return entry
        kind = methods()[label]
        return MethodEntry(label, kind, kind.Config())

    def settings(
        self, model: str, downstream: str, entry: MethodEntry
    ) -> tuple[MethodConfig, Recipe]:
        """Return the hyper-parameters and the recipe of the cells of a model, set and method."""
        return choose(entry, self.recipe, self.choices.get((model, downstream, entry.label)))

    def to_yaml(self) -> str:
        """Write the grid out in full: names for `all`, every default, absolute paths.

        What each machine fills in for itself stays as it is.
        """
        value = {
            "name": self.name,
            "suite": dict(self.suite.declaration or {}) or self.suite.name,
            "data_root": self.data_on_nodes,
            "models": [
                written(entry, model)
                for entry, model in zip(self.entries, self.models, strict=True)
            ],
            "downstream": list(self.downstream),
            "methods": [entry.written() for entry in self.methods],
            "method_files": [
                {"path": file.path, "digest": file.digest} for file in self.method_files
            ],
            "seeds": list(self.seeds),
            "recipe": self.recipe.model_dump(mode="json"),
            "evaluate": list(self.evaluate),
            "curve": None
            if self.curve is None
            else {**asdict(self.curve), "sets": list(self.curve.sets)},
            "predictions": list(self.predictions),
            "top_classes": self.top_classes,
            "resources": self.resources.model_dump(mode="json"),
            "acknowledge": list(self.acknowledge),
            "skip_undecodable": list(self.skip_undecodable),
            "accept_images": dict(self.accept_images),
            "data_manifest": None if self.data_manifest is None else str(self.data_manifest),
            "throughput": {
                name: given.model_dump(mode="json") for name, given in self.throughput.items()
            },
            "distance": self.distance.model_dump(mode="json", exclude_none=True),
            "tune": None
            if self.tune is None
            else self.tune.model_dump(mode="json", exclude_none=True),
            "choices": [choice.model_dump(mode="json") for choice in self.choices.values()],
            "image_cache": None
            if self.image_cache is None
            else self.image_cache.model_dump(mode="json"),
            "score_together": self.score_together,
            "keep": self.keep,
            "min_free": int(self.min_free),
        }
        return yaml.safe_dump(value, sort_keys=False)


def load_grid(path: Path, store: str | None = None) -> Grid:
    """Read a grid file. `store` takes the place of the one that it names.

    Raises:
        UserError: with every problem in the file.
    """
    return resolve_grid(read_yaml(path), store)


def load_stored_grid(text: str, store: str) -> Grid:
    """Read the grid that a store was filled by."""
    return resolve_grid(parse_yaml(text, f"{store}/grid.yaml"), store, is_stored=True)


def resolve_grid(document: Document, store: str | None = None, is_stored: bool = False) -> Grid:
    """Turn a parsed grid file into a Grid; see `load_grid`.

    A stored grid is read on machines that have no data, too: of its data root a variable may be
    unset until a cell is to run.
    """
    file, problems = parse_grid_file(document)
    suite = resolve_suite(file, document, problems)
    method_files = resolve_method_files(file, document, problems)
    root, template = _data_root(file, document, problems, is_stored)
    entries = resolve_methods(file, document, problems)
    check_recipe(file, entries, document, problems)
    models = resolve_models(file, suite, root, document, problems)
    downstream, evaluate, skipping = _sets(file, suite, document, problems)
    curve = resolve_curve(file, suite, document, problems)
    predictions = resolve_predictions(file, suite, evaluate, document, problems)
    place = store or _store(file, document, problems)
    manifest = _data_manifest(file, document, problems)
    cache = _image_cache(file, document, problems, is_stored)
    _no_repeats(file.seeds, "seeds", document, problems)
    _check_clauses(file, suite, document, problems)
    _check_throughput(file, document, problems)
    _check_accepted(file, suite, document, problems)
    names = [entry.name for entry in file.models or ()]
    check_distance(file.distance, names, suite, document, problems)
    check_tune(file, entries, document, problems)
    choices = resolve_choices(file, suite, entries, document, problems)
    if problems or suite is None or root is None or file.name is None:
        raise UserError(problems)
    return Grid(
        name=file.name,
        suite=suite.with_images(file.accept_images),
        data_root=root,
        store=place,
        models=models,
        downstream=downstream,
        methods=entries,
        seeds=tuple(file.seeds),
        recipe=file.recipe,
        evaluate=evaluate,
        resources=file.resources,
        entries=tuple(file.models or ()),
        acknowledge=tuple(file.acknowledge),
        throughput=file.throughput,
        skip_undecodable=skipping,
        accept_images=file.accept_images,
        data_manifest=manifest,
        distance=file.distance,
        tune=file.tune,
        choices=choices,
        image_cache=cache,
        score_together=file.score_together,
        keep=file.keep,
        min_free=file.min_free,
        data_template=template,
        method_files=method_files,
        curve=curve,
        predictions=predictions,
        top_classes=file.top_classes,
    )


def with_acknowledged(grid: Grid, names: Sequence[str]) -> Grid:
    """Return the grid with the clauses that a command line acknowledges.

    Raises:
        UserError: naming each that the suite does not have.
    """
    found = (clause_problem(name, grid.suite, "--acknowledge") for name in names)
    if problems := [problem for problem in found if problem is not None]:
        raise UserError(problems)
    return replace(grid, acknowledge=tuple(dict.fromkeys((*grid.acknowledge, *names))))


def with_digests(grid: Grid) -> Grid:
    """Return the grid with the digest of every weights file that is there by now."""
    return replace(grid, models=tuple(identify(m, grid.data_root) for m in grid.models))


def _data_root(
    file: GridFile, document: Document, problems: list[Problem], is_stored: bool
) -> tuple[Path | None, str]:
    """Return the data root on this machine, and what others have to fill in, if they do."""
    if file.data_root is None:
        return None, ""
    where = document.where(("data_root",))
    place = expand(file.data_root, where, [] if is_stored else problems)
    template = for_each_machine(file.data_root, place)
    if place is None:
        return (Path(file.data_root) if is_stored else None), template
    root = Path(place).resolve()
    taken = next((p for p in (root, *root.parents) if p.exists()), root)
    if not taken.is_dir():
        problems.append(Problem(where, f"{taken} is a file, not a folder"))
    return root, template


def _data_manifest(file: GridFile, document: Document, problems: list[Problem]) -> Path | None:
    if file.data_manifest is None:
        return None
    place = expand(file.data_manifest, document.where(("data_manifest",)), problems)
    return None if place is None else Path(place).resolve()


def _image_cache(
    file: GridFile, document: Document, problems: list[Problem], is_stored: bool
) -> ImageCache | None:
    """Return the cache with its folder absolute, or as each machine is to fill it in."""
    if file.image_cache is None:
        return None
    written = file.image_cache.folder
    where = document.where(("image_cache", "folder"))
    place = expand(written, where, [] if is_stored else problems)
    folder = for_each_machine(written, place) or str(Path(place or written).resolve())
    return file.image_cache.model_copy(update={"folder": folder})


def _store(file: GridFile, document: Document, problems: list[Problem]) -> str:
    if file.store is None:
        return f"runs/{file.name}"
    return expand(file.store, document.where(("store",)), problems) or file.store


def _sets(
    file: GridFile, suite: Suite | None, document: Document, problems: list[Problem]
) -> list[tuple[str, ...]]:
    """Return the sets to fine-tune on, to evaluate, and to read without undecodable images."""
    if suite is None:
        return [(), (), ()]
    every = tuple(suite.evaluation_sets)
    chosen = []
    for key, given, allowed in (
        ("downstream", file.downstream, suite.ood_names),
        ("evaluate", file.evaluate, every),
        ("skip_undecodable", file.skip_undecodable, every),
    ):
        names = allowed if given == "all" else tuple(given)
        for index, name in enumerate(names):
            if name not in allowed:
                where = document.where((key, index))
                hint = nearest(name, allowed)
                message = f"unknown data set {name!r}"
                if name in suite.evaluation_sets:
                    message = f"{name!r} is the ID set: nothing is fine-tuned on it"
                problems.append(Problem(where, message, hint))
        _no_repeats(names, key, document, problems)
        chosen.append(names)
    return chosen


def _check_clauses(
    file: GridFile, suite: Suite | None, document: Document, problems: list[Problem]
) -> None:
    if suite is None:
        return
    for index, name in enumerate(file.acknowledge):
        problem = clause_problem(name, suite, document.where(("acknowledge", index)))
        if problem is not None:
            problems.append(problem)
    _no_repeats(file.acknowledge, "acknowledge", document, problems)


def clause_problem(name: str, suite: Suite, where: str) -> Problem | None:
    """Say what is wrong with acknowledging a clause, if anything is."""
    specs = suite.evaluation_sets.values()
    known = {spec.no_tuning.name for spec in specs if spec.no_tuning is not None}
    if name in known:
        return None
    hint = nearest(name, known) if known else f"no set of {suite.name} has one"
    return Problem(where, f"unknown licence clause {name!r}", hint)


def _check_throughput(file: GridFile, document: Document, problems: list[Problem]) -> None:
    names = [entry.name for entry in file.models or ()]
    for name in file.throughput if names else ():
        if name not in names:
            where = document.where(("throughput", name))
            problems.append(Problem(where, f"the grid has no model {name!r}", nearest(name, names)))


def _check_accepted(
    file: GridFile, suite: Suite | None, document: Document, problems: list[Problem]
) -> None:
    if suite is None:
        return
    known = set(suite.evaluation_sets)
    if suite.id_train is not None:
        known.add(suite.id_train.name)
    for name in file.accept_images:
        if name not in known:
            where = document.where(("accept_images", name))
            problems.append(Problem(where, f"unknown data set {name!r}", nearest(name, known)))


def _no_repeats(
    values: Sequence[Any], key: str, document: Document, problems: list[Problem]
) -> None:
    for index, value in enumerate(values):
        if value in values[:index]:
            problems.append(Problem(document.where((key, index)), f"{value!r} is there twice"))


__all__ = ["BASELINE", "Grid", "MethodEntry", "load_grid", "load_stored_grid", "with_digests"]
