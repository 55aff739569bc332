"""Feature distillation: stay near what the pre-trained model sees in each image.

The loss is cross-entropy + strength * mean of (phi(x) - phi0(x))^2 over batch and features, where
phi is the input of the classifier and phi0 that of the pre-trained model: LDIFS (Mukhoti et al.
2023, arXiv 2308.13320) with the last layer's features, and a mean where it has a sum, so that one
strength suits models of every width. Images are not augmented, so phi0 is computed once, and shared
with linear probing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from workers.methods.base import FineTuning, MethodConfig, Workbench
from workers.methods.lp import classifier_of, classifier_parameters

if TYPE_CHECKING:
    import torch
    from torch import nn

    from workers.train import Step


class FeatureDistillConfig(MethodConfig):
    """Hyper-parameters of feature distillation."""

    strength: float = Field(1.0, ge=0, description="weight of the features' mean squared change")


class FeatureDistill(FineTuning):
    """Minimises cross-entropy + strength * the mean squared change of features."""

    name: ClassVar[str] = "feature-distill"
    version: ClassVar[int] = 2
    Config: ClassVar[type[MethodConfig]] = FeatureDistillConfig
    shares: ClassVar[str | None] = "features"
    config: FeatureDistillConfig

    @classmethod
    def unfit(cls, config: MethodConfig, module: nn.Module) -> str:  # noqa: ARG003
        return "" if classifier_parameters(module) else "the architecture has no linear classifier"

    def prepare(self, module: nn.Module, bench: Workbench) -> None:
        self.before = bench.frozen_features()
        self.handle = classifier_of(module).register_forward_pre_hook(self._keep_features)

    def finish(self, module: nn.Module) -> nn.Module:
        self.handle.remove()
        return module

    def _keep_features(self, _: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        self.now = inputs[0]

    def loss(self, step: Step) -> torch.Tensor:
        before = step.rows_of(self.before)
        distance = (self.now.float() - before).square().mean()
        return step.cross_entropy() + self.config.strength * distance
