"""EMA: fine-tuning whose result is the exponential moving average of the weights along the run.

theta_ema <- decay * theta_ema + (1 - decay) * theta after each step, from the pre-trained weights
(Polyak averaging; Tarvainen and Valpola 2017, arXiv 1703.01780). Floating buffers are averaged,
integer ones copied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from workers.methods.base import FineTuning, MethodConfig, Workbench
from workers.recipe import Recipe

if TYPE_CHECKING:
    import torch
    from torch import nn


class EMAConfig(MethodConfig):
    """Hyper-parameters of the moving average."""

    decay: float = Field(0.999, ge=0, lt=1, description="of the average, per step")


class EMA(FineTuning):
    """Minimises the cross-entropy; evaluates the average of the weights along the way."""

    name: ClassVar[str] = "ema"
    Config: ClassVar[type[MethodConfig]] = EMAConfig
    config: EMAConfig

    @classmethod
    def unsuited(cls, config: MethodConfig, recipe: Recipe) -> str:
        if recipe.patience is None:
            return super().unsuited(config, recipe)
        return "early stopping keeps the weights of one epoch, and the result is an average of all"

    def prepare(self, module: nn.Module, bench: Workbench) -> None:  # noqa: ARG002
        from timm.utils.model_ema import ModelEmaV3

        self.average = ModelEmaV3(module, decay=self.config.decay)

    def after_step(self, module: nn.Module) -> None:
        self.average.update(module)

    def state(self) -> dict[str, torch.Tensor]:
        averaged: dict[str, torch.Tensor] = self.average.module.state_dict()
        return averaged

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        self.average.module.load_state_dict(state)

    def evaluated(self, module: nn.Module) -> nn.Module:  # noqa: ARG002
        averaged: nn.Module = self.average.module
        return averaged

    def finish(self, module: nn.Module) -> nn.Module:
        return self.evaluated(module)
