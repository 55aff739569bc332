"""Checking a grid's `tune` and `choices`: every name is known and every value can be used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.grid_file import GridFile, validate
from orchestrator.grid_methods import MethodEntry
from orchestrator.tune_keys import ChoiceEntry, Domain, Tune
from orchestrator.yaml_source import Document, Location
from workers.errors import Problem, nearest
from workers.methods import MethodConfig
from workers.recipe import Recipe
from workers.suites import Suite

RECIPE = "recipe"
"""The key of a space whose values are of every method's recipe."""

FIXED = {
    "holdout": "it is tune.holdout: trials are compared on the same images",
    "patience": "it says which epoch is kept, and that is no hyper-parameter of training",
    "epochs": "it is what every trial may use: the longest would only ever win",
}
"""Keys of the recipe that cannot be searched, and why."""

Key = tuple[str, str, str]
"""Model, downstream set and method, by their names in the grid."""


def choose(
    entry: MethodEntry, recipe: Recipe, choice: ChoiceEntry | None
) -> tuple[MethodConfig, Recipe]:
    """Return what a cell is trained with: the grid's values, or those chosen in their place."""
    if choice is None:
        return entry.config, recipe
    config = {**entry.hyperparameters, **choice.hyperparameters}
    chosen = {**recipe.model_dump(mode="json"), **choice.recipe}
    return entry.kind.Config.model_validate(config), Recipe.model_validate(chosen)


# ---------------------------------------------------------------------------- tune


def check_tune(
    file: GridFile, entries: Sequence[MethodEntry], document: Document, problems: list[Problem]
) -> None:
    """Append what is wrong with a grid's search space."""
    if file.tune is None:
        return
    where = document.where(("tune",))
    if not any(file.tune.space.values()):
        hint = "such as space: {recipe: {lr: {log_uniform: [1e-4, 1e-1]}}}"
        problems.append(Problem(where, "the space is empty: there is nothing to search", hint))
    if entries and not any(entry.kind.trains for entry in entries):
        problems.append(Problem(where, "no method of the grid trains: there is nothing to search"))
    labelled = {entry.label: entry for entry in entries}
    for label, domains in file.tune.space.items():
        location = ("tune", "space", label)
        if label == RECIPE:
            _check_recipe_space(file, file.tune, domains, document, problems)
        elif label not in labelled:
            if entries:
                known = [RECIPE, *(e.label for e in entries if e.kind.trains)]
                message = f"the grid has no method {label!r}"
                problems.append(Problem(document.where(location), message, nearest(label, known)))
        elif not labelled[label].kind.trains:
            message = f"{label!r} trains nothing"
            hint = "what it combines can be tuned"
            problems.append(Problem(document.where(location), message, hint))
        else:
            _check_method_space(labelled[label], domains, document, problems)


def _check_recipe_space(
    file: GridFile,
    tune: Tune,
    domains: Mapping[str, Domain],
    document: Document,
    problems: list[Problem],
) -> None:
    location = ("tune", "space", RECIPE)
    base = {**file.recipe.model_dump(mode="json"), "holdout": tune.holdout}
    for name, domain in domains.items():
        if name in FIXED:
            where = document.where((*location, name))
            problems.append(Problem(where, f"cannot be searched: {FIXED[name]}"))
        else:
            _check_values(Recipe, base, name, domain, document, location, problems)


def _check_method_space(
    entry: MethodEntry,
    domains: Mapping[str, Domain],
    document: Document,
    problems: list[Problem],
) -> None:
    location = ("tune", "space", entry.label)
    for name, domain in domains.items():
        base = entry.hyperparameters
        for config in _check_values(
            entry.kind.Config, base, name, domain, document, location, problems
        ):
            if _starts_elsewhere(entry, config):
                where = document.where((*location, name))
                message = "cannot be searched: it decides what the method starts from"
                problems.append(Problem(where, message))
                break


def _check_values(
    section: type[Any],
    base: Mapping[str, Any],
    name: str,
    domain: Domain,
    document: Document,
    location: Location,
    problems: list[Problem],
) -> list[Any]:
    """Validate the extremes of a domain in place of one key's value; return what is valid."""
    valid = []
    for value in domain.extremes:
        found: list[Problem] = []
        one = validate(section, {**base, name: value}, document, location, found)
        problems += [problem for problem in found if problem not in problems]
        if one is not None:
            valid.append(one)
    return valid


def _starts_elsewhere(entry: MethodEntry, config: MethodConfig) -> bool:
    kind = entry.kind
    return (kind.starts_from(config), kind.seeds(config)) != (
        kind.starts_from(entry.config),
        kind.seeds(entry.config),
    )


# ---------------------------------------------------------------------------- choices


def resolve_choices(
    file: GridFile,
    suite: Suite | None,
    entries: Sequence[MethodEntry],
    document: Document,
    problems: list[Problem],
) -> dict[Key, ChoiceEntry]:
    """Return a grid's choices by what they are for; append what is wrong with them."""
    choices: dict[Key, ChoiceEntry] = {}
    labelled = {entry.label: entry for entry in entries}
    models = [model.name for model in file.models or ()]
    for index, choice in enumerate(file.choices):
        location = ("choices", index)
        known = {
            "model": (choice.model, models),
            "downstream": (choice.downstream, suite.ood_names if suite is not None else ()),
            "method": (choice.method, tuple(labelled)),
        }
        for key, (name, allowed) in known.items():
            if allowed and name not in allowed:
                where = document.where((*location, key))
                hint = nearest(name, allowed)
                problems.append(Problem(where, f"the grid has no {key} {name!r}", hint))
        if choice.key in choices:
            message = f"{' / '.join(choice.key)} is there twice"
            problems.append(Problem(document.where(location), message))
        choices[choice.key] = choice
        if choice.method in labelled:
            _check_choice(file, labelled[choice.method], choice, document, location, problems)
    _check_still_distinct(file, entries, choices, document, problems)
    return choices


def _check_choice(
    file: GridFile,
    entry: MethodEntry,
    choice: ChoiceEntry,
    document: Document,
    location: Location,
    problems: list[Problem],
) -> None:
    def complain(key: str, message: str) -> None:
        problems.append(Problem(document.where((*location, key)), message))

    if "holdout" in choice.recipe:
        complain(RECIPE, "'holdout' is the grid's: methods are compared on the same images")
    if choice.recipe and not entry.kind.trains:
        complain(RECIPE, f"{choice.method!r} trains nothing")
    recipe = validate(
        Recipe,
        {**file.recipe.model_dump(mode="json"), **choice.recipe},
        document,
        (*location, RECIPE),
        problems,
    )
    config = validate(
        entry.kind.Config,
        {**entry.hyperparameters, **choice.hyperparameters},
        document,
        (*location, "hyperparameters"),
        problems,
    )
    if config is not None and _starts_elsewhere(entry, config):
        complain("hyperparameters", "what a method starts from is the same in all of its cells")
    reason = "" if recipe is None or config is None else entry.kind.unsuited(config, recipe)
    if reason:
        complain(RECIPE, f"{entry.label!r}: {reason}")


def _check_still_distinct(
    file: GridFile,
    entries: Sequence[MethodEntry],
    choices: Mapping[Key, ChoiceEntry],
    document: Document,
    problems: list[Problem],
) -> None:
    """Check that no choice makes a method the same as another one of the grid."""
    if problems:
        return
    labelled = {entry.label: entry for entry in entries}

    def resolved(label: str, model: str, downstream: str) -> Any:
        entry = labelled[label]
        return choose(entry, file.recipe, choices.get((model, downstream, label)))

    for index, (model, downstream, label) in enumerate(choices):
        mine = resolved(label, model, downstream)
        for other in _others_of_kind(labelled[label], entries):
            if resolved(other.label, model, downstream) == mine:
                where = document.where(("choices", index))
                message = f"{label!r} is then the same as {other.label!r}: their cells are one"
                problems.append(Problem(where, message))


def _others_of_kind(entry: MethodEntry, entries: Sequence[MethodEntry]) -> list[MethodEntry]:
    return [one for one in entries if one.kind is entry.kind and one.label != entry.label]
