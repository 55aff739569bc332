"""The models of a grid: names of the suite's or timm's models, or weights files, -> Model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.grid_file import GridFile, ModelEntry, TransformOverrides
from orchestrator.paths import expand, for_each_machine
from orchestrator.yaml_source import Document
from workers.cell import Model
from workers.digests import file_digest
from workers.errors import Problem, nearest
from workers.suites import Suite

UNMADE = "unmade"
"""Stands for the digest of a weights file that the suite has yet to make."""

LOADING = {
    "pretrained",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "pretrained_strict",
    "checkpoint_path",
    "cache_dir",
}
"""Arguments of `timm.create_model` that say which weights are loaded, and so are the grid's."""


def resolve_models(
    file: GridFile,
    suite: Suite | None,
    root: Path | None,
    document: Document,
    problems: list[Problem],
) -> tuple[Model, ...]:
    """Return the models that a grid file names; append what is wrong with them."""
    if suite is None or root is None:
        return ()
    found: list[Model] = []
    for index, entry in enumerate(file.models or ()):
        where = document.where(("models", index))
        model = _model(entry, suite, root, where, problems)
        if model is None:
            continue
        if any(other.name == model.name for other in found):
            problems.append(Problem(where, f"the model {model.name!r} is there twice"))
        elif any(other.identity() == model.identity() for other in found if not _unmade(other)):
            problems.append(Problem(where, f"{model.name!r} is the same as another model here"))
        found.append(model)
    return tuple(found)


def _unmade(model: Model) -> bool:
    return model.weights in ("", UNMADE)


def _model(
    entry: ModelEntry, suite: Suite, root: Path, where: str, problems: list[Problem]
) -> Model | None:
    for name in sorted(LOADING & entry.arguments.keys()):
        message = f"the argument {name!r} would load other weights than the grid names"
        problems.append(Problem(where, message, "a file goes under 'weights'"))
    if entry.architecture is None and entry.weights is None:
        return _named(entry, suite, root, where, problems)
    if entry.architecture is None or entry.weights is None:
        problems.append(Problem(where, "a weights file needs both 'architecture' and 'weights'"))
        return None
    return _from_file(entry, entry.architecture, entry.weights, where, problems)


def _named(
    entry: ModelEntry, suite: Suite, root: Path, where: str, problems: list[Problem]
) -> Model | None:
    """Return a model of the suite's, or one whose weights timm publishes."""
    if entry.key is not None:
        problems.append(Problem(where, "'key' goes with 'weights', a file of your own"))
    named = {model.name: model for model in suite.models}
    if entry.name in named:
        return _whole(identify(_overridden(named[entry.name], entry), root))
    if not _is_published(entry.name):
        hint = nearest(entry.name, [*named, *_published_models()])
        problems.append(Problem(where, f"unknown model {entry.name!r}", hint))
        return None
    tagged = _with_tag(entry.name)
    model = Model(entry.name, architecture=tagged, weights=f"timm:{tagged}")
    return _whole(_overridden(model, entry))


def _from_file(
    entry: ModelEntry, architecture: str, weights: str, where: str, problems: list[Problem]
) -> Model | None:
    """Return a model whose weights are in a file of the user's."""
    is_known = _is_architecture(architecture)
    if not is_known:
        hint = nearest(architecture, _architectures())
        problems.append(Problem(where, f"unknown architecture {architecture!r}", hint))
    place = expand(weights, where, [] if entry.digest else problems)
    path = None if place is None else Path(place).resolve()
    if entry.digest is None:
        if path is None or not path.is_file():
            if path is not None:
                problems.append(Problem(where, f"there is no weights file {path}"))
            return None
        digest = file_digest(path)
    else:  # the file need not be on this machine before a cell is to run
        digest = entry.digest
    file = for_each_machine(weights, place) or str(path)
    model = Model(entry.name, architecture, digest, file=file, key=entry.key)
    return _whole(_overridden(model, entry)) if is_known else None


def _overridden(model: Model, entry: ModelEntry) -> Model:
    changes = entry.transform.model_dump(mode="json", exclude_none=True)
    return replace(
        model,
        weights=entry.digest or model.weights,
        pretraining=model.pretraining if entry.pretraining is None else entry.pretraining,
        arguments={**model.arguments, **entry.arguments},
        transform={**model.transform, **changes},
    )


def _whole(model: Model) -> Model:
    """Fill in what the transform has from timm, so that it is part of the cells' identity."""
    if all(name in model.transform for name in TransformOverrides.model_fields):
        return model
    from workers.models import own_transform

    return replace(model, transform=own_transform(model))


def identify(model: Model, root: Path) -> Model:
    """Fill in the digest of a model's weights file, if it is there and none was written down."""
    if model.file is None or not _unmade(model):
        return model
    path = root / model.file
    return replace(model, weights=file_digest(path) if path.is_file() else UNMADE)


def written(entry: ModelEntry, model: Model) -> dict[str, Any]:
    """Return a model entry as a later run can read it, from elsewhere and without the file."""
    changes: dict[str, Any] = {}
    if entry.weights is not None:
        changes["weights"] = model.file
    if model.file is not None and not _unmade(model):
        changes["digest"] = model.weights
    if entry.weights is not None or model.file is None:
        changes["transform"] = TransformOverrides(**model.transform)
    full = entry.model_copy(update=changes)
    value = full.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    # A key that is given takes the place of the grid's, whatever its default is.
    return value if entry.resources is None else {**value, "resources": entry.resources.written()}


# ------------------------------------------------------- timm's names, which take five seconds


def _is_published(name: str) -> bool:
    import timm

    return bool(timm.is_model(name)) and bool(timm.is_model_pretrained(name))


def _published_models() -> list[str]:
    import timm

    names: list[str] = timm.list_models(pretrained=True)
    return names


def _is_architecture(name: str) -> bool:
    """Tell whether timm builds an architecture; a tag, if there is one, has to exist too."""
    import timm

    tags: set[str] = set(timm.list_pretrained(f"{name.partition('.')[0]}.*"))
    return bool(timm.is_model(name)) and ("." not in name or name in tags)


def _architectures() -> list[str]:
    import timm

    names: list[str] = timm.list_models()
    return names


def _with_tag(name: str) -> str:
    """Return a model's full name: without a tag it would mean other weights in another timm."""
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(name)
    assert config is not None, f"{name} is no model of timm's"
    return f"{config.architecture}.{config.tag}" if config.tag else str(config.architecture)
