"""The state of a training run between two epochs, in the store: what a restarted try goes on from.

A state is one safetensors file: weights, the optimiser's and the method's tensors, the state of
every random generator, and as JSON in its header what is not a tensor. Its name says its epoch and
its digest, so a file that was cut short or damaged is known by its name. The state before the last
is kept, in case that happens to the last. Nothing in it can run when it is read.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from workers.store import Store

NAME = re.compile(r"training\.(\d{5})\.([0-9a-f]{16})\.safetensors")
FACTS = "facts"


@dataclass(frozen=True)
class TrainingState:
    """Everything that the rest of a training run depends on, after some epochs of it."""

    epoch: int
    """How many epochs it has behind it."""
    tensors: dict[str, torch.Tensor]
    """On the CPU, by dotted names."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What is no tensor, as JSON takes it."""

    def part(self, prefix: str) -> dict[str, torch.Tensor]:
        """Return the tensors below a dotted prefix, by the rest of their names."""
        start = f"{prefix}."
        return {k.removeprefix(start): v for k, v in self.tensors.items() if k.startswith(start)}

    def pack(self) -> bytes:
        """Serialise as safetensors."""
        tensors = {name: tensor.contiguous() for name, tensor in self.tensors.items()}
        return save(tensors, metadata={FACTS: json.dumps({"epoch": self.epoch, **self.facts})})


def unpack(data: bytes) -> TrainingState:
    """Read what `pack` wrote.

    Raises:
        SafetensorError, ValueError, KeyError: when this is not it.
    """
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    facts = json.loads(header["__metadata__"][FACTS])
    return TrainingState(facts.pop("epoch"), load(data), facts)


def is_whole(name: str, data: bytes) -> bool:
    """Whether bytes are those that a state of this name was written with."""
    match = NAME.fullmatch(name)
    return match is not None and match[2] == _digest(data)


class TrainingStates:
    """The training states of one cell in a store."""

    def __init__(self, store: Store, cell_id: str, seconds_between: float = 0.0) -> None:
        """Look after a cell's states.

        Args:
            store: where they lie.
            cell_id: whose they are.
            seconds_between: a state is skipped when the last one is younger than this.
        """
        self.store, self.cell_id, self.seconds_between = store, cell_id, seconds_between
        self._last_saved = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether it is time to save a state again."""
        return time.monotonic() - self._last_saved >= self.seconds_between

    def save(self, state: TrainingState) -> None:
        """Put a state into the store and drop all but the one before it."""
        data = state.pack()
        name = f"training.{state.epoch:05d}.{_digest(data)}.safetensors"
        earlier = [old for old in self._names() if old != name]
        self.store.save_artifact(self.cell_id, name, data)
        for old in earlier[:-1]:
            self._delete(old)
        self._last_saved = time.monotonic()

    def latest(self) -> TrainingState | None:
        """Return the newest state that is whole; None when there is none."""
        for name in reversed(self._names()):
            try:
                data = self.store.read_artifact(self.cell_id, name)
            except FileNotFoundError:
                continue  # another try at this cell, thought dead or thinking this one so
            if is_whole(name, data):
                try:
                    return unpack(data)
                except (SafetensorError, ValueError, KeyError):
                    continue  # whole, but not a state: written by another version
        return None

    def clear(self) -> None:
        """Drop every state: the cell has its weights."""
        for name in self._names():
            self._delete(name)

    def _names(self) -> list[str]:
        names = self.store.storage.names(f"artifacts/{self.cell_id}", ".safetensors")
        return [name for name in names if NAME.fullmatch(name)]

    def _delete(self, name: str) -> None:
        self.store.storage.delete(f"artifacts/{self.cell_id}/{name}")


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
