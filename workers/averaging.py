"""Averages of weights: what soups and WiSE-FT are made of."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from workers.models import State


def average(members: Sequence[State], weights: Sequence[float] | None = None) -> State:
    """Return the weighted mean of state dicts, entry by entry.

    Floating entries (BatchNorm's running statistics among them) are averaged in float64; integer
    buffers (BatchNorm's batch counter) are kept from the first, since their mean means nothing.

    Args:
        members: state dicts with the same entries.
        weights: one for each member, of which the sum need not be 1; the same for all by default.

    Raises:
        ValueError: the members are of different architectures.
    """
    first = members[0]
    if any(member.keys() != first.keys() for member in members):
        raise ValueError("state dicts of different architectures cannot be averaged")
    shares = torch.tensor(weights or [1.0] * len(members), dtype=torch.float64)
    return {
        name: _mean([member[name] for member in members], shares)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in first.items()
    }


def _mean(tensors: list[torch.Tensor], shares: torch.Tensor) -> torch.Tensor:
    total = torch.tensordot(shares, torch.stack([t.double() for t in tensors]), dims=1)
    mean: torch.Tensor = total / shares.sum()
    return mean.to(tensors[0].dtype)
