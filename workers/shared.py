"""Work that several cells need, done once: features, teacher logits, Fisher matrices.

What is shared lies in the store under a digest of everything that decides it, and the last pieces
stay in the process. Whichever worker needs a piece first computes it; two that do so at once write
the same bytes. A cell that computes a piece for itself gets the same numbers as one that finds it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import torch

from workers.cell import digest
from workers.models import DamagedStateError, State, pack_with_digest, unpack_state
from workers.store import Store

KEPT_BYTES = 1 << 30
"""How much a worker process keeps between cells."""

STORED_BYTES = 2 << 30
"""Larger pieces are not put into the store: computing them again is as quick as reading them."""


class SharedWork:
    """Tensors by what they are and what decides them, from this process or from a store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def get(self, what: str, key: Mapping[str, Any], compute: Callable[[], State]) -> State:
        """Return what `compute` gives for a key, computing it only if nobody has.

        Args:
            what: the kind of work; names the file.
            key: everything that decides the tensors' values, as JSON takes it.
            compute: returns the tensors, on the CPU.
        """
        name = f"shared/{what}-{digest(dict(key))}.safetensors"
        place = (self.store.uri, name)
        state = _KEPT.get(place)
        if state is None:
            state = self._stored(name)
            if state is None:
                state = compute()
                if _n_bytes(state) <= STORED_BYTES:
                    self.store.storage.write(name, pack_with_digest(state))
            _KEPT.put(place, state)
        return state

    def _stored(self, name: str) -> State | None:
        """Read a piece from the store; None when there is none, or none that is whole."""
        try:
            return unpack_state(self.store.storage.read(name))
        except FileNotFoundError:
            return None
        except DamagedStateError:
            self.store.set_aside([name])
            return None


class _Kept:
    """The pieces used last, up to KEPT_BYTES; the newest stays whatever its size."""

    def __init__(self) -> None:
        self._states: OrderedDict[tuple[str, str], State] = OrderedDict()

    def get(self, place: tuple[str, str]) -> State | None:
        if place in self._states:
            self._states.move_to_end(place)
        return self._states.get(place)

    def put(self, place: tuple[str, str], state: State) -> None:
        self._states[place] = state
        while len(self._states) > 1 and self._total() > KEPT_BYTES:
            self._states.popitem(last=False)

    def _total(self) -> int:
        return sum(_n_bytes(state) for state in self._states.values())


_KEPT = _Kept()


def _n_bytes(state: Mapping[str, torch.Tensor]) -> int:
    return sum(tensor.nbytes for tensor in state.values())
