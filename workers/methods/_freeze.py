"""Training a part of a model: which parameters, and what the rest of it does meanwhile."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def train_only(module: nn.Module, names: Iterable[str]) -> None:
    """Let gradients reach the named parameters and no other.

    Raises:
        KeyError: when the module has no such parameter.
    """
    wanted = set(names)
    parameters = dict(module.named_parameters())
    if unknown := wanted - parameters.keys():
        raise KeyError(f"no parameters are named {sorted(unknown)}")
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in wanted)


def train_mode_where_trained(module: nn.Module) -> None:
    """Put the submodules with trained parameters into training mode and all others into eval mode.

    A BatchNorm layer or a dropout in a frozen part then does what it does when the model is
    evaluated, and no buffer of that part moves.
    """
    module.eval()
    for submodule in module.modules():
        if any(p.requires_grad for p in submodule.parameters(recurse=False)):
            submodule.train()
            for child in submodule.children():  # train() reached down into frozen parts
                train_mode_where_trained(child)


def matching(module: nn.Module, patterns: Iterable[str]) -> list[str]:
    """Return the parameters whose names match one of some shell patterns, such as `*norm*`."""
    from fnmatch import fnmatchcase

    wanted = tuple(patterns)
    return [
        name
        for name, _ in module.named_parameters()
        if any(fnmatchcase(name, pattern) for pattern in wanted)
    ]
