"""Building models: architectures with their pre-trained weights, and their transforms."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from timm.data.config import resolve_data_config
from timm.models import PretrainedCfg, get_pretrained_cfg
from torch import nn

from workers.cell import Model
from workers.digests import file_digest
from workers.errors import DataError, Problem
from workers.images import Transform
from workers.models.hub import missing, source_of
from workers.models.weights import Weights, read_weights
from workers.paths import place_here


def create(model: Model) -> nn.Module:
    """Build a model's architecture with fresh weights."""
    module: nn.Module = timm.create_model(model.architecture, pretrained=False, **model.arguments)
    return module


def load_pretrained(model: Model, data_root: Path) -> nn.Module:
    """Build a model with its pre-trained weights, on the CPU, in eval mode. Asks no network.

    Raises:
        DataError: when the weights are not on this machine, are not those that the cell's
            identity names, or do not fit the architecture.
    """
    path = weights_path(model, data_root)
    if problems := _other_digest(model, path):
        raise DataError(problems)
    if model.file is None:
        return _published(model, path).eval()
    module = create(model)
    module.load_state_dict(read_weights(model, path, module).state)
    return module.eval()


def weights_path(model: Model, data_root: Path) -> Path:
    """Return the file on this machine that holds a model's weights.

    Raises:
        DataError: when it is not there.
    """
    if model.file is None:
        source = source_of(model)
        cached = source.cached()
        if cached is None:
            raise DataError([missing(model, source)])
        return cached
    try:
        path = data_root / place_here(model.file)
    except DataError as error:
        problem = error.problems[0]
        raise DataError([Problem(_entry(model), problem.message)]) from error
    if not path.is_file():
        raise DataError([Problem(str(path), "there is no such weights file", _entry(model))])
    return path


def weights_digest(model: Model, data_root: Path) -> str:
    """Return `sha256:<hex>` of the file that a model's weights are loaded from on this machine.

    Raises:
        DataError: when it is not there.
    """
    return file_digest(weights_path(model, data_root))


def check_weights(model: Model, data_root: Path) -> list[Problem]:
    """Say what is wrong with a model's weights: not there, not the ones planned for, no fit.

    Of a weights file, names and shapes are compared; the numbers are not loaded.
    """
    try:
        path = weights_path(model, data_root)
        if model.file is not None:
            examine(model, data_root)
    except DataError as error:
        return list(error.problems)
    return _other_digest(model, path)


def examine(model: Model, data_root: Path) -> Weights:
    """Read a model's weights file for its architecture, without building that.

    Raises:
        DataError: when it is not there or does not fit.
    """
    with torch.device("meta"):
        module = create(model)
    return read_weights(model, weights_path(model, data_root), module)


def check_head(model: Model, module: nn.Module) -> list[Problem]:
    """Refuse arguments that give published weights a new head: it would hold random numbers."""
    n_published = _config(model.architecture)["num_classes"]
    n_outputs = module.num_classes
    if model.file is not None or n_outputs == n_published:
        return []
    message = f"its weights are published for {n_published} classes, not {n_outputs}"
    return [Problem(_entry(model), message, "the new head would hold random numbers")]


def transform_of(model: Model, module: nn.Module) -> Transform:
    """Return a model's evaluation transform: its pretrained config, with its overrides."""
    return _transform(model, module.pretrained_cfg)  # type: ignore[arg-type]


def own_transform(model: Model) -> dict[str, Any]:
    """Return the whole transform of a model, as `Model.transform` holds it, without building it."""
    found = asdict(_transform(model, _config(model.architecture)))
    return {key: list(x) if isinstance(x, tuple) else x for key, x in found.items()}


def _transform(model: Model, config: Mapping[str, Any]) -> Transform:
    # At its test size, where it has one: published accuracies are measured at that.
    own = resolve_data_config({}, pretrained_cfg=config, use_test_size=True)
    return Transform.from_config({**own, **model.transform})


def _config(architecture: str) -> dict[str, Any]:
    config: dict[str, Any] = (get_pretrained_cfg(architecture) or PretrainedCfg()).to_dict()
    return config


def _published(model: Model, path: Path) -> nn.Module:
    """Load published weights from their copy, as timm does: it knows each architecture's format."""
    try:
        module: nn.Module = timm.create_model(
            model.architecture,
            pretrained=True,
            pretrained_cfg_overlay={"file": str(path)},
            **model.arguments,
        )
    except (RuntimeError, OSError, SafetensorError, pickle.UnpicklingError) as error:
        # Arguments can ask for another network than the one that was published.
        message = f"does not load into {model.architecture} {dict(model.arguments)}: {error}"
        raise DataError([Problem(str(path), message, _entry(model))]) from error
    if problems := check_head(model, module):
        raise DataError(problems)
    return module


def _other_digest(model: Model, path: Path) -> list[Problem]:
    """Compare a file with the digest that it should have, if that is known."""
    pinned = "" if model.weights.startswith("timm:") else model.weights
    blob = path.resolve()
    found = file_digest(path)
    if pinned and found != pinned:
        message = f"these are the weights {found[:19]}..., not {pinned[:19]}..."
        hint = "another file has taken the place of the one planned for"
        return [Problem(str(path), message, hint)]
    # The hub's cache calls a large file by its SHA-256, and a symbolic link leads there.
    is_named = model.file is None and re.fullmatch("[0-9a-f]{64}", blob.name)
    if is_named and found != f"sha256:{blob.name}":
        message = "this copy is damaged: its digest is not the one that it was published with"
        return [Problem(str(blob), message, "delete it and run: rib models fetch GRID")]
    return []


def _entry(model: Model) -> str:
    return f"models entry {model.name!r}"
