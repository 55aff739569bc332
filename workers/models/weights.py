"""Weights files: safetensors and PyTorch checkpoints, understood whole or refused with the reason.

What is loaded is what the file holds, tensor by tensor. Nothing is resized, dropped or left as it
was initialised. Two things around the tensors are understood: a training checkpoint is unwrapped,
and a prefix that a wrapper gave every name is taken off.
"""

from __future__ import annotations

import argparse
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from workers.cell import Model
from workers.errors import DataError, Problem
from workers.models.states import State

PREFIXES = ("module.", "model.", "_orig_mod.")
"""What DistributedDataParallel, training frameworks and torch.compile put before every name."""

SHOWN = 3
"""How many misfits a message names; the others are counted."""


@dataclass(frozen=True)
class Weights:
    """The tensors of a file under the architecture's names, and how they were come by."""

    state: State
    """Tensors that still lie in the file: they are read when they are copied into a model."""
    notes: tuple[str, ...] = ()
    """What was unwrapped and taken off, in words."""


def read_weights(model: Model, path: Path, module: nn.Module) -> Weights:
    """Read a weights file for a model.

    Args:
        model: whose file it is; `model.key` says which entry of a training checkpoint is meant.
        path: a safetensors file, or one that `torch.save` wrote, whatever its name.
        module: the architecture, on any device (`meta` too): its names and shapes count.

    Raises:
        DataError: when the file cannot be read without running code, when it is not clear which
            of its entries is meant, or when a name or shape is not the architecture's.
    """
    expected = module.state_dict()
    try:
        state, notes = _unwrap(_read(path), model.key)
        state, prefix = _strip(state, expected)
        if misfits := _misfits(state, expected):
            reason = _diagnosis(state, expected, misfits, _head_of(module))
            raise _RefusedError(f"does not fit {model.architecture}: {reason}")
    except _RefusedError as error:
        hint = f"models entry {model.name!r}" + (f"; {error.hint}" if error.hint else "")
        raise DataError([Problem(str(path), str(error), hint)]) from error
    if prefix:
        notes = (*notes, f"the prefix {prefix!r} is taken off")
    return Weights(state, notes)


class _RefusedError(Exception):
    """Why a file is not taken, and what to do about it."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.hint = hint


# ------------------------------------------------------------------------------ files


def _read(path: Path) -> Any:
    """Return what a file holds: a state dict from safetensors, anything from PyTorch's format."""
    if not path.is_file():
        raise _RefusedError("there is no such weights file")
    return _read_safetensors(path) if _is_safetensors(path) else _read_torch(path)


def _is_safetensors(path: Path) -> bool:
    """Tell the formats apart by what is in the file: names such as .bin are given to both."""
    with path.open("rb") as handle:
        head = handle.read(9)
    # Safetensors begins with the length of its JSON header (64 bits, little-endian), then "{".
    # That length can look like the first bytes of a pickle or a zip, but theirs fits no file.
    fits = int.from_bytes(head[:8], "little") <= path.stat().st_size - 8
    return path.suffix == ".safetensors" or (fits and head[8:] == b"{")


def _read_safetensors(path: Path) -> State:
    try:
        state: State = load_file(path)
    except (OSError, SafetensorError) as error:
        raise _RefusedError(f"cannot be read as safetensors: {error}") from error
    return state


def _read_torch(path: Path) -> Any:
    """Unpickle a PyTorch file with nothing allowed but tensors and plain values."""
    # timm's and many other training scripts keep their command line in the checkpoint: a
    # Namespace is a plain holder of values.
    with torch.serialization.safe_globals([argparse.Namespace]):
        is_zip = zipfile.is_zipfile(path)
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
        except MemoryError:
            raise
        except Exception as error:  # whatever a damaged or foreign pickle makes torch raise
            if found := _forbidden(path, error):
                message = f"it would run code when it is loaded: it needs {found}"
                hint = "where you trust it, convert it to safetensors: see docs/models.md"
                raise _RefusedError(message, hint) from error
            raise _RefusedError(
                f"cannot be read as a PyTorch checkpoint: {_reason(error)}"
            ) from error


def _forbidden(path: Path, error: Exception) -> str:
    """Return what besides tensors a pickle asks for, empty when that is not what is wrong."""
    if "TorchScript" in str(error):
        return "the program of a TorchScript archive"
    named = set(re.findall(r"GLOBAL ([\w.]+)", str(error)))  # the first; a zip can be asked for all
    if named and zipfile.is_zipfile(path):
        named.update(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    return ", ".join(sorted(named))


def _reason(error: Exception) -> str:
    """Return what torch says is wrong, without its advice to load the file unsafely."""
    text = str(error)
    if isinstance(error, pickle.UnpicklingError):
        text = text.partition("WeightsUnpickler error:")[2].strip() or text
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__


# ------------------------------------------------------------------------------ unwrapping


def _unwrap(content: Any, key: str | None) -> tuple[State, tuple[str, ...]]:
    """Return the state dict in what was read: all of it, or an entry of a training checkpoint."""
    if _is_state(content):
        if key is not None:
            raise _RefusedError(
                f"it has no entry {key!r}: its tensors are not wrapped", "no 'key' then"
            )
        return dict(content), ()
    if not isinstance(content, Mapping):
        raise _RefusedError(f"holds a {type(content).__name__}, not tensors by name")
    states = {str(name): value for name, value in content.items() if _is_state(value)}
    if not states:
        found = ", ".join(map(str, content)) or "nothing"
        raise _RefusedError(f"no entry of it is a state dict of tensors: it holds {found}")
    choices = ", ".join(states)
    if key is None and len(states) > 1:
        hint = f"choose one in the grid, such as key: {next(iter(states))}"
        raise _RefusedError(f"holds {len(states)} state dicts: {choices}", hint)
    chosen = next(iter(states)) if key is None else key
    if chosen not in states:
        raise _RefusedError(f"no entry {chosen!r} of it is a state dict", f"it has {choices}")
    return dict(states[chosen]), (f"the entry {chosen!r} is read",)


def _is_state(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(name, str) for name in value)
        and all(isinstance(tensor, torch.Tensor) for tensor in value.values())
    )


def _strip(state: State, expected: Mapping[str, Any]) -> tuple[State, str]:
    """Take known prefixes off all names, while none of them is the architecture's as it stands."""
    taken = ""
    while not state.keys() & expected.keys():
        prefix = next((p for p in PREFIXES if all(name.startswith(p) for name in state)), None)
        if prefix is None:
            break
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
        taken += prefix
    return state, taken


# ------------------------------------------------------------------------------ fitting


def _misfits(state: State, expected: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Return what is wrong with each name that is: another shape or kind, missing, unknown."""
    wrong = {}
    for name, tensor in expected.items():
        if name in state and state[name].shape != tensor.shape:
            shapes = list(state[name].shape), list(tensor.shape)
            wrong[name] = f"{name} has shape {shapes[0]}, the architecture has {shapes[1]}"
        elif name in state and state[name].is_floating_point() != tensor.is_floating_point():
            types = state[name].dtype, tensor.dtype
            wrong[name] = f"{name} is {types[0]}, the architecture has {types[1]}"
    wrong |= {name: f"{name} is missing" for name in expected if name not in state}
    wrong |= {name: f"{name} is not in the architecture" for name in state if name not in expected}
    return wrong


def _diagnosis(
    state: State,
    expected: Mapping[str, torch.Tensor],
    misfits: Mapping[str, str],
    head: tuple[str, ...],
) -> str:
    """Put misfits into words: some of them, how many more, and what they come from if they tell."""
    told = list(misfits.values())
    text = "; ".join(told[:SHOWN])
    if len(told) > SHOWN:
        text += f"; and {len(told) - SHOWN} more"
    if not state.keys() & expected.keys():
        return f"{text} (no name is the architecture's: are these another model's weights?)"
    bias = next((f"{name}.bias" for name in head if f"{name}.bias" in misfits), "")
    is_head = all(name.startswith(tuple(f"{part}." for part in head)) for name in misfits)
    if bias in state and bias in expected and is_head:
        sizes = len(state[bias]), len(expected[bias])
        text += f": its head is for {sizes[0]} classes, the model's for {sizes[1]}"
    return text


def _head_of(module: nn.Module) -> tuple[str, ...]:
    """Return the names of an architecture's classifiers, as timm's config has them."""
    config: Any = module.pretrained_cfg
    names = config.get("classifier") or ()
    return (names,) if isinstance(names, str) else tuple(names)
