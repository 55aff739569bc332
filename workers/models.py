"""Building pre-trained models, their transforms, and checkpoints (safetensors only)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, load_file, save
from timm.data.config import resolve_data_config
from torch import nn

from workers.cell import Model
from workers.digests import file_digest
from workers.errors import DataError, Problem
from workers.images import Transform

State = dict[str, torch.Tensor]
"""A state dict: parameters and buffers by name, on the CPU."""


def weights_path(model: Model, data_root: Path) -> Path | None:
    """Return where a model's weights file lies, None for weights from the hub."""
    return None if model.file is None else data_root / model.file


def create(model: Model, *, hub_weights: bool = False) -> nn.Module:
    """Build a model's architecture with fresh weights, or with those that the hub has for it."""
    module: nn.Module = timm.create_model(
        model.architecture, pretrained=hub_weights, **model.arguments
    )
    return module


def load_pretrained(model: Model, data_root: Path) -> nn.Module:
    """Build a model with its pre-trained weights, on the CPU, in eval mode.

    Raises:
        DataError: when the file is missing, is not the one that the cell's identity names, or
            does not fit the architecture.
    """
    path = weights_path(model, data_root)
    if path is None:
        return create(model, hub_weights=True).eval()
    if problems := check_weights(model, data_root):
        raise DataError(problems)
    if problems := check_digest(model, data_root):
        raise DataError(problems)
    module = create(model)
    module.load_state_dict(load_file(path))
    return module.eval()


def check_digest(model: Model, data_root: Path) -> list[Problem]:
    """Compare a weights file with the one that the model's identity names."""
    path = weights_path(model, data_root)
    if path is None or (found := file_digest(path)) == model.weights:
        return []
    message = f"these are the weights {found[:19]}..., not {model.weights[:19]}..."
    return [Problem(str(path), message, "another file has taken the place of the one planned for")]


def check_weights(model: Model, data_root: Path) -> list[Problem]:
    """Compare the names and shapes in a weights file with those of the architecture.

    Reads the file's header only.
    """
    path = weights_path(model, data_root)
    if path is None:
        return []
    try:
        with safe_open(path, framework="pt") as handle:
            found = {key: tuple(handle.get_slice(key).get_shape()) for key in handle.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        return [Problem(str(path), f"cannot be read as safetensors: {error}")]
    with torch.device("meta"):
        expected = {key: tuple(t.shape) for key, t in create(model).state_dict().items()}
    wrong = [
        f"{key} has shape {list(found[key])}, the architecture has {list(shape)}"
        for key, shape in expected.items()
        if key in found and found[key] != shape
    ]
    wrong += [f"{key} is missing" for key in expected if key not in found]
    wrong += [f"{key} is not in the architecture" for key in found if key not in expected]
    if not wrong:
        return []
    more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    message = f"does not fit {model.architecture}: " + "; ".join(wrong[:3]) + more
    return [Problem(str(path), message, f"models entry {model.name!r}")]


def transform_of(model: Model, module: nn.Module) -> Transform:
    """Return a model's evaluation transform: its pretrained config, with its overrides."""
    config: dict[str, Any] = resolve_data_config({}, model=module)
    return Transform.from_config({**config, **model.transform})


def state_of(module: nn.Module) -> State:
    """Return a copy of a module's parameters and buffers on the CPU."""
    return {
        name: tensor.detach().to("cpu", copy=True) for name, tensor in module.state_dict().items()
    }


def pack_state(state: State) -> bytes:
    """Serialise a state dict as safetensors."""
    return save({name: tensor.contiguous() for name, tensor in state.items()})


def unpack_state(data: bytes) -> State:
    """Read a state dict from safetensors."""
    state: State = load(data)
    return state


def average(members: Sequence[State]) -> State:
    """Return the uniform mean of state dicts, entry by entry.

    Floating entries are averaged in float64; integer buffers (BatchNorm's batch counter) are kept
    from the first, since their mean means nothing.
    """
    first = members[0]
    if any(member.keys() != first.keys() for member in members):
        raise ValueError("state dicts of different architectures cannot be averaged")
    return {
        name: _mean([member[name] for member in members]) if tensor.is_floating_point() else tensor
        for name, tensor in first.items()
    }


def _mean(tensors: list[torch.Tensor]) -> torch.Tensor:
    total = torch.stack([tensor.double() for tensor in tensors]).mean(dim=0)
    return total.to(tensors[0].dtype)
