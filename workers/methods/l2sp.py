"""L2-SP: a penalty on the distance from the starting point (Li, Grandvalet, Davoine 2018).

Equation 3 of arXiv 1802.01483, over all weights: the head is kept here, so there is no new layer
that would need a penalty of its own. This is what the code of ImageNet-RIB (arXiv 2410.21582) runs
under the name of EWC, with strength 1: a Fisher matrix of ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from workers.methods._penalty import anchor_of, quadratic_penalty
from workers.methods.base import FineTuning, MethodConfig, Workbench

if TYPE_CHECKING:
    import torch
    from torch import nn

    from workers.train import Step


class L2SPConfig(MethodConfig):
    """Hyper-parameters of L2-SP."""

    strength: float = Field(1.0, ge=0, description="lambda in lambda * sum (theta - theta0)^2")


class L2SP(FineTuning):
    """Minimises cross-entropy + strength * sum (theta - theta0)^2."""

    name: ClassVar[str] = "l2sp"
    Config: ClassVar[type[MethodConfig]] = L2SPConfig
    config: L2SPConfig

    def prepare(self, module: nn.Module, bench: Workbench) -> None:  # noqa: ARG002
        self.anchor = anchor_of(module)

    def loss(self, step: Step) -> torch.Tensor:
        penalty = quadratic_penalty(step.module, self.anchor)
        return step.cross_entropy() + self.config.strength * penalty
