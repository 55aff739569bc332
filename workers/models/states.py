"""State dicts: copied from a module, averaged, and packed as safetensors."""

from __future__ import annotations

from collections.abc import Sequence

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
