"""The models of a grid: names of the suite's or timm's models, or weights files, -> Model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.grid_file import GridFile, ModelEntry
from orchestrator.paths import expand
from orchestrator.yaml_source import Document
from workers.cell import Model
from workers.digests import file_digest
from workers.errors import Problem, nearest
from workers.suites import Suite

UNMADE = "unmade"
"""Stands for the digest of a weights file that the suite has yet to make."""


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
    if entry.architecture is None and entry.weights is None:
        named = {model.name: model for model in suite.models}
        if entry.name in named:
            return identify(_overridden(named[entry.name], entry), root)
        if not _is_timm_model(entry.name, pretrained=True):
            hint = nearest(entry.name, [*named, *_timm_models(pretrained=True)])
            problems.append(Problem(where, f"unknown model {entry.name!r}", hint))
            return None
        tagged = Model(entry.name, architecture=entry.name, weights=f"timm:{entry.name}")
        return _overridden(tagged, entry)
    if entry.architecture is None or entry.weights is None:
        problems.append(Problem(where, "a weights file needs both 'architecture' and 'weights'"))
        return None
    if not _is_timm_model(entry.architecture):
        hint = nearest(entry.architecture, _timm_models())
        problems.append(Problem(where, f"unknown architecture {entry.architecture!r}", hint))
    place = expand(entry.weights, where, problems)
    if place is None:
        return None
    path = Path(place).resolve()
    if entry.digest is None and not path.is_file():
        problems.append(Problem(where, f"there is no weights file {path}"))
        return None
    blank = Model(entry.name, entry.architecture, weights=UNMADE, file=str(path))
    return identify(_overridden(blank, entry), root)


def _overridden(model: Model, entry: ModelEntry) -> Model:
    changes = entry.transform.model_dump(mode="json", exclude_none=True)
    return replace(
        model,
        weights=entry.digest or model.weights,
        pretraining=model.pretraining if entry.pretraining is None else entry.pretraining,
        arguments={**model.arguments, **entry.arguments},
        transform={**model.transform, **changes},
    )


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
    full = entry.model_copy(update=changes)
    return full.model_dump(mode="json", exclude_none=True, exclude_defaults=True)


def _timm_models(pretrained: bool = False) -> list[str]:
    import timm  # five seconds: only for grids that name a timm model

    names: list[str] = timm.list_models(pretrained=pretrained)
    return names


def _is_timm_model(name: str, pretrained: bool = False) -> bool:
    import timm

    return bool(timm.is_model(name)) and (not pretrained or bool(timm.is_model_pretrained(name)))
