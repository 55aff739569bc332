"""The quadratic pull towards the pre-trained weights that L2-SP and EWC share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn


def anchor_of(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return a copy of the parameters that will be trained, as they are now."""
    return {
        name: parameter.detach().clone()
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
    }


def quadratic_penalty(
    module: nn.Module,
    anchor: Mapping[str, torch.Tensor],
    importance: Mapping[str, torch.Tensor] | None = None,
) -> torch.Tensor:
    """Return sum_k F_k (theta_k - theta0_k)^2, a scalar; F = 1 when no importance is given."""
    import torch

    terms = []
    for name, parameter in module.named_parameters():
        if name in anchor:
            squares = (parameter - anchor[name]).square()
            terms.append((squares if importance is None else importance[name] * squares).sum())
    return torch.stack(terms).sum()
