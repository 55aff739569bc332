"""Surgical fine-tuning: only chosen layers (Lee et al. 2023, arXiv 2210.11466).

Which layers suit depends on the shift: the first for corruptions of the input, the last for shifts
of the output. Everything else is frozen, BatchNorm statistics included.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, field_validator

from workers.methods._freeze import train_mode_where_trained, train_only
from workers.methods.base import FineTuning, MethodConfig, Workbench

if TYPE_CHECKING:
    from torch import nn


class SurgicalConfig(MethodConfig):
    """Which layers are trained."""

    layers: tuple[int, ...] = Field(
        (1,),
        min_length=1,
        description="0 the stem, 1, 2, ... the blocks, -1 the classifier, -2 the last block, ...",
    )

    @field_validator("layers")
    @classmethod
    def _distinct(cls, layers: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(layers)) < len(layers):
            raise ValueError("layers repeat")
        return layers


class Surgical(FineTuning):
    """Minimises the cross-entropy over the weights of some layers."""

    name: ClassVar[str] = "surgical"
    Config: ClassVar[type[MethodConfig]] = SurgicalConfig
    config: SurgicalConfig

    @classmethod
    def unfit(cls, config: MethodConfig, module: nn.Module) -> str:
        assert isinstance(config, SurgicalConfig)
        n = len(layers_of(module))
        strays = [k for k in config.layers if not -n <= k < n]
        return f"the architecture has layers {-n} to {n - 1}, not {strays}" if strays else ""

    def prepare(self, module: nn.Module, bench: Workbench) -> None:  # noqa: ARG002
        layers = layers_of(module)
        train_only(module, [name for k in self.config.layers for name in layers[k]])

    def set_mode(self, module: nn.Module) -> None:
        train_mode_where_trained(module)


def layers_of(module: Any) -> list[list[str]]:
    """Return the parameters' names by layer, as timm groups them: stem, blocks, classifier."""
    from timm.models import group_parameters

    groups = group_parameters(module, module.group_matcher(coarse=True))
    return [list(groups[layer]) for layer in sorted(groups)]
