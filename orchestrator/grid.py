"""A grid: YAML -> frozen Grid, with every error reported at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from orchestrator.grid_file import (
    GridFile,
    ModelEntry,
    Resources,
    Throughput,
    parse_grid_file,
    validate,
)
from orchestrator.grid_models import UNMADE, identify, resolve_models, written
from orchestrator.paths import expand
from orchestrator.yaml_source import Document, parse_yaml, read_yaml
from workers.cell import BASELINE, Model, canonical_json
from workers.errors import Problem, UserError, nearest
from workers.methods import Method, MethodConfig, methods
from workers.recipe import Recipe
from workers.suites import Suite, suites


@dataclass(frozen=True)
class MethodEntry:
    """A method with its hyper-parameters, under the name that tables show."""

    label: str
    kind: type[Method]
    config: MethodConfig

    @property
    def hyperparameters(self) -> dict[str, Any]:
        return self.config.model_dump(mode="json")


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

    def to_yaml(self) -> str:
        """Write the grid out in full: names for `all`, every default, absolute paths."""
        value = {
            "name": self.name,
            "suite": self.suite.name,
            "data_root": str(self.data_root),
            "models": [
                written(entry, model)
                for entry, model in zip(self.entries, self.models, strict=True)
            ],
            "downstream": list(self.downstream),
            "methods": [
                {"name": entry.label, "method": entry.kind.name, **entry.hyperparameters}
                for entry in self.methods
            ],
            "seeds": list(self.seeds),
            "recipe": self.recipe.model_dump(mode="json"),
            "evaluate": list(self.evaluate),
            "resources": self.resources.model_dump(mode="json"),
            "acknowledge": list(self.acknowledge),
            "skip_undecodable": list(self.skip_undecodable),
            "throughput": {
                name: given.model_dump(mode="json") for name, given in self.throughput.items()
            },
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
    return resolve_grid(parse_yaml(text, f"{store}/grid.yaml"), store)


def resolve_grid(document: Document, store: str | None = None) -> Grid:
    """Turn a parsed grid file into a Grid; see `load_grid`."""
    file, problems = parse_grid_file(document)
    suite = _suite(file, document, problems)
    root = _data_root(file, document, problems)
    entries = _methods(file, document, problems)
    models = resolve_models(file, suite, root, document, problems)
    downstream, evaluate, skipping = _sets(file, suite, document, problems)
    place = store or _store(file, document, problems)
    _no_repeats(file.seeds, "seeds", document, problems)
    _check_clauses(file, suite, document, problems)
    _check_throughput(file, document, problems)
    if problems or suite is None or root is None or file.name is None:
        raise UserError(problems)
    return Grid(
        name=file.name,
        suite=suite,
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


def _suite(file: GridFile, document: Document, problems: list[Problem]) -> Suite | None:
    if file.suite is None:
        return None
    if file.suite not in suites():
        hint = nearest(file.suite, suites())
        problems.append(Problem(document.where(("suite",)), f"unknown suite {file.suite!r}", hint))
    return suites().get(file.suite)


def _data_root(file: GridFile, document: Document, problems: list[Problem]) -> Path | None:
    if file.data_root is None:
        return None
    where = document.where(("data_root",))
    place = expand(file.data_root, where, problems)
    if place is None:
        return None
    root = Path(place).resolve()
    taken = next((p for p in (root, *root.parents) if p.exists()), root)
    if not taken.is_dir():
        problems.append(Problem(where, f"{taken} is a file, not a folder"))
    return root


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


def _no_repeats(
    values: Sequence[Any], key: str, document: Document, problems: list[Problem]
) -> None:
    for index, value in enumerate(values):
        if value in values[:index]:
            problems.append(Problem(document.where((key, index)), f"{value!r} is there twice"))


# ---------------------------------------------------------------------------------- methods


def _methods(
    file: GridFile, document: Document, problems: list[Problem]
) -> tuple[MethodEntry, ...]:
    entries: list[tuple[int, MethodEntry]] = []
    for index, raw in enumerate(file.methods or ()):
        entry = _method(raw, index, document, problems)
        if entry is not None:
            entries.append((index, entry))
    _check_distinct(entries, document, problems)
    _check_starting_points(entries, document, problems)
    return tuple(entry for _, entry in entries)


def _method(
    raw: dict[str, Any], index: int, document: Document, problems: list[Problem]
) -> MethodEntry | None:
    where = document.where(("methods", index))
    name, label = raw.get("method"), raw.get("name", raw.get("method"))
    if not isinstance(name, str):
        problems.append(Problem(where, "the key 'method' is missing", "such as: method: ft"))
        return None
    if name not in methods():
        problems.append(Problem(where, f"unknown method {name!r}", nearest(name, methods())))
        return None
    if not isinstance(label, str) or not label or any(c in label for c in "/,= \t\n"):
        problems.append(Problem(where, f"{label!r} is no name for a method"))
        return None
    if label != name and label in methods():
        message = f"{label!r} is the name of another method than {name!r}"
        problems.append(Problem(where, message, "choose a name of its own"))
    given = {key: value for key, value in raw.items() if key not in ("name", "method")}
    kind = methods()[name]
    config = validate(kind.Config, given, document, ("methods", index), problems)
    return None if config is None else MethodEntry(label, kind, config)


def _check_distinct(
    entries: list[tuple[int, MethodEntry]], document: Document, problems: list[Problem]
) -> None:
    labels: dict[str, int] = {}
    same: dict[tuple[str, str], str] = {}
    for index, entry in entries:
        where = document.where(("methods", index))
        identity = (entry.kind.name, canonical_json(entry.hyperparameters))
        if entry.label in labels:
            hint = "give variants of a method a name each"
            problems.append(Problem(where, f"the method {entry.label!r} is there twice", hint))
        elif identity in same:
            message = f"{entry.label!r} is the same as {same[identity]!r}: their cells are one"
            problems.append(Problem(where, message))
        labels.setdefault(entry.label, index)
        same.setdefault(identity, entry.label)


def _check_starting_points(
    entries: list[tuple[int, MethodEntry]], document: Document, problems: list[Problem]
) -> None:
    """Check that what methods start from exists and that none starts from itself."""
    starts = {entry.label: entry.kind.starts_from(entry.config) for _, entry in entries}
    for name, kind in methods().items():
        starts.setdefault(name, kind.starts_from(kind.Config()))
    for index, entry in entries:
        where = document.where(("methods", index))
        for start in starts[entry.label]:
            if start not in starts:
                hint = nearest(start, starts)
                message = f"{entry.label!r} needs the unknown method {start!r}"
                problems.append(Problem(where, message, hint))
        if circle := _circle_from(entry.label, starts):
            problems.append(Problem(where, f"{entry.label!r} needs itself: {' -> '.join(circle)}"))


def _circle_from(label: str, starts: Mapping[str, Sequence[str]]) -> list[str]:
    """Return a way from a label back to itself, empty when there is none."""
    trails = [[label]]
    seen: set[str] = set()
    while trails:
        trail = trails.pop()
        for start in starts.get(trail[-1], ()):
            if start == label:
                return [*trail, label]
            if start not in seen:
                seen.add(start)
                trails.append([*trail, start])
    return []


__all__ = ["BASELINE", "Grid", "MethodEntry", "load_grid", "load_stored_grid", "with_digests"]
