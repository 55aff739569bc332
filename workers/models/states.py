"""State dicts: copied from a module, and packed as safetensors that can be checked."""

from __future__ import annotations

import hashlib
import json

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

State = dict[str, torch.Tensor]
"""A state dict: parameters and buffers by name, on the CPU."""

DIGEST = "sha256"
"""The key in a file's metadata under which it has the digest of its tensors."""


class DamagedStateError(Exception):
    """Bytes that are not, or are no longer, the state dict that was packed."""


def state_of(module: nn.Module) -> State:
    """Return a copy of a module's parameters and buffers on the CPU."""
    return {
        name: tensor.detach().to("cpu", copy=True) for name, tensor in module.state_dict().items()
    }


def pack_state(state: State) -> bytes:
    """Serialise a state dict as safetensors."""
    return save({name: tensor.contiguous() for name, tensor in state.items()})


def pack_with_digest(state: State) -> bytes:
    """Serialise a state dict as safetensors that say by a digest whether they are whole."""
    tensors = {name: tensor.contiguous() for name, tensor in state.items()}
    return save(tensors, metadata={DIGEST: _digest(save(tensors))})


def unpack_state(data: bytes) -> State:
    """Read a state dict, and check it if its file has a digest.

    Raises:
        DamagedStateError: when it is cut short, changed, or something else.
    """
    try:
        state: State = load(data)
        digest = _metadata(data).get(DIGEST)
    except (SafetensorError, ValueError, AttributeError) as error:
        raise DamagedStateError(f"no safetensors, or cut short: {error}") from error
    if digest is not None and digest != _digest(data):
        raise DamagedStateError(f"its tensors are not those that were written ({DIGEST} differs)")
    return state


def _metadata(data: bytes) -> dict[str, str]:
    return dict(_header(data).get("__metadata__", {}))


def _header(data: bytes) -> dict[str, dict[str, str]]:
    header: dict[str, dict[str, str]] = json.loads(data[8 : 8 + _header_length(data)])
    return header


def _header_length(data: bytes) -> int:
    return int.from_bytes(data[:8], "little")


def _digest(data: bytes) -> str:
    """Digest a file's tensors, with their names, types and shapes, whatever its metadata."""
    tensors = {name: entry for name, entry in _header(data).items() if name != "__metadata__"}
    digest = hashlib.sha256(json.dumps(tensors, sort_keys=True).encode())
    digest.update(memoryview(data)[8 + _header_length(data) :])
    return digest.hexdigest()
