"""State dicts: copied from a module, and packed as safetensors."""

from __future__ import annotations

import torch
from safetensors.torch import load, save
from torch import nn

State = dict[str, torch.Tensor]
"""A state dict: parameters and buffers by name, on the CPU."""


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
