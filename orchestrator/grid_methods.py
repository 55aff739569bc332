"""The methods of a grid: names with hyper-parameters -> MethodEntry, and what each starts from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from orchestrator.grid_file import GridFile, Resources, validate
from orchestrator.yaml_source import Document
from workers.cell import canonical_json
from workers.errors import Problem, nearest
from workers.methods import ABSENT, Method, MethodConfig, methods


@dataclass(frozen=True)
class MethodEntry:
    """A method with its hyper-parameters, under the name that tables show."""

    label: str
    kind: type[Method]
    config: MethodConfig
    only_models: tuple[str, ...] = ()
    """Shell patterns of the models that the grid asks for it on; none for all of them."""
    resources: Resources | None = None
    """What its cells ask for, where that is not as usual."""

    @property
    def hyperparameters(self) -> dict[str, Any]:
        return self.config.model_dump(mode="json")

    def is_for(self, model: str) -> bool:
        """Whether the grid asks for this method on a model."""
        return not self.only_models or any(fnmatchcase(model, p) for p in self.only_models)

    def written(self) -> dict[str, Any]:
        """Return the entry as a grid file has it, every default written out."""
        own: dict[str, Any] = {"name": self.label, "method": self.kind.name}
        if self.only_models:
            own["only_models"] = list(self.only_models)
        if self.resources is not None:
            own["resources"] = self.resources.written()
        return {**own, **self.hyperparameters}


def resolve_methods(
    file: GridFile, document: Document, problems: list[Problem]
) -> tuple[MethodEntry, ...]:
    """Return the methods that a grid file names; append what is wrong with them."""
    entries: list[tuple[int, MethodEntry]] = []
    for index, raw in enumerate(file.methods or ()):
        for one in _expanded(raw, index, document, problems):
            entry = _method(one, file, index, document, problems)
            if entry is not None:
                entries.append((index, entry))
    _check_distinct(entries, document, problems)
    _check_starting_points(entries, document, problems)
    return tuple(entry for _, entry in entries)


def check_recipe(
    file: GridFile, entries: Sequence[MethodEntry], document: Document, problems: list[Problem]
) -> None:
    """Append the methods that cannot be used with the grid's recipe."""
    for entry in _with_starting_points(entries):
        if reason := entry.kind.unsuited(entry.config, file.recipe):
            problems.append(Problem(document.where(("recipe",)), f"{entry.label!r}: {reason}"))


def _with_starting_points(entries: Sequence[MethodEntry]) -> list[MethodEntry]:
    """Return entries and, by their defaults, the methods that they start from and do not name."""
    found = {entry.label: entry for entry in entries}
    waiting = list(entries)
    while waiting:
        entry = waiting.pop()
        for start in entry.kind.starts_from(entry.config):
            kind = methods().get(start)
            if kind is not None and start not in found:
                found[start] = MethodEntry(start, kind, kind.Config())
                waiting.append(found[start])
    return list(found.values())


def _expanded(
    raw: dict[str, Any], index: int, document: Document, problems: list[Problem]
) -> list[dict[str, Any]]:
    """Return an entry for each value of a list that stands for several cells (WiSE-FT's alpha)."""
    kind = methods().get(str(raw.get("method")))
    key = (kind.expands if kind is not None else None) or ""
    values = raw.get(key)
    if not isinstance(values, list):
        return [raw]
    if not values:
        where = document.where(("methods", index, key))
        problems.append(Problem(where, f"the list of {key} is empty", "give at least one value"))
    label = raw.get("name", raw["method"])
    return [{**raw, "name": f"{label}-{value}", key: value} for value in values]


def _method(
    raw: dict[str, Any],
    file: GridFile,
    index: int,
    document: Document,
    problems: list[Problem],
) -> MethodEntry | None:
    where = document.where(("methods", index))
    name, label = raw.get("method"), raw.get("name", raw.get("method"))
    if not isinstance(name, str):
        problems.append(Problem(where, "the key 'method' is missing", "such as: method: ft"))
        return None
    if name not in methods():
        hint = ABSENT.get(name) or nearest(name, methods())
        problems.append(Problem(where, f"unknown method {name!r}", hint))
        return None
    if not isinstance(label, str) or not label or any(c in label for c in "/,= \t\n"):
        problems.append(Problem(where, f"{label!r} is no name for a method"))
        return None
    if label != name and label in methods():
        message = f"{label!r} is the name of another method than {name!r}"
        problems.append(Problem(where, message, "choose a name of its own"))
    own = ("name", "method", "only_models", "resources")
    given = {key: value for key, value in raw.items() if key not in own}
    kind = methods()[name]
    config = validate(kind.Config, given, document, ("methods", index), problems)
    only = _only_models(raw.get("only_models", []), file, index, document, problems)
    resources = _resources(raw, label, file, index, document, problems)
    return None if config is None else MethodEntry(label, kind, config, only, resources)


def _resources(
    raw: dict[str, Any],
    label: str,
    file: GridFile,
    index: int,
    document: Document,
    problems: list[Problem],
) -> Resources | None:
    """Return what a method's entry asks for; no node has what it and a model's contradict in."""
    if "resources" not in raw:
        return None
    location = ("methods", index, "resources")
    resources = validate(Resources, raw["resources"], document, location, problems)
    asked = {} if resources is None else resources.labels
    for model in file.models or ():
        others = {} if model.resources is None else model.resources.labels
        for key in asked.keys() & others.keys():
            if asked[key] != others[key]:
                where = document.where((*location, "labels", key))
                message = f"{label!r} asks for {key}={asked[key]}, {model.name!r} for {others[key]}"
                problems.append(Problem(where, message, "no node has both"))
    return resources


def _only_models(
    patterns: Any, file: GridFile, index: int, document: Document, problems: list[Problem]
) -> tuple[str, ...]:
    where = document.where(("methods", index, "only_models"))
    if not isinstance(patterns, list) or not all(isinstance(one, str) for one in patterns):
        problems.append(Problem(where, "should be a list of models' names or patterns of them"))
        return ()
    names = [entry.name for entry in file.models or ()]
    for pattern in patterns:
        if names and not any(fnmatchcase(name, pattern) for name in names):
            message = f"{pattern!r} is the name of no model of this grid"
            problems.append(Problem(where, message, nearest(pattern, names)))
    return tuple(patterns)


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
    kinds = {**methods(), **{entry.label: entry.kind for _, entry in entries}}
    for name, kind in methods().items():
        starts.setdefault(name, kind.starts_from(kind.Config()))
    for index, entry in entries:
        where = document.where(("methods", index))
        for start in starts[entry.label]:
            if start not in starts:
                hint = nearest(start, starts)
                message = f"{entry.label!r} needs the unknown method {start!r}"
                problems.append(Problem(where, message, hint))
            elif not kinds[start].keeps_architecture:
                message = f"{entry.label!r} needs the weights of {start!r}"
                hint = f"{kinds[start].name} changes the model: its weights fit no other"
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
