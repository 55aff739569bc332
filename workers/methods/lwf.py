"""Learning without forgetting (Li and Hoiem 2016, arXiv 1606.09282), as in ImageNet-RIB.

The loss is cross-entropy + alpha * KL(softmax(z0 / T) || softmax(z / T)), the KL divergence meant
over the batch, where z0 are the logits of the pre-trained model. Both sides are restricted to the
downstream set's classes. As in the code of arXiv 2410.21582 there is no factor T^2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from workers.methods.base import FineTuning, MethodConfig, Workbench

if TYPE_CHECKING:
    import torch
    from torch import nn

    from workers.train import Step


class LwFConfig(MethodConfig):
    """Hyper-parameters of LwF."""

    alpha: float = Field(1.0, ge=0, description="weight of the distillation term")
    temperature: float = Field(2.0, gt=0, description="T of both softmaxes")


class LwF(FineTuning):
    """Minimises cross-entropy + alpha * KL to the pre-trained model's predictions."""

    name: ClassVar[str] = "lwf"
    Config: ClassVar[type[MethodConfig]] = LwFConfig
    relative_cost: ClassVar[float] = 4 / 3  # a second forward pass beside forward and backward
    config: LwFConfig

    def prepare(self, module: nn.Module, bench: Workbench) -> None:  # noqa: ARG002
        self.teacher = bench.pretrained().requires_grad_(False)

    def loss(self, step: Step) -> torch.Tensor:
        import torch

        with torch.no_grad():
            before = step.select(self.teacher(step.images))
        distance = distillation(step.logits, before, self.config.temperature)
        return step.cross_entropy() + self.config.alpha * distance


def distillation(
    logits: torch.Tensor, teacher_logits: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Return KL(softmax(teacher / T) || softmax(student / T)), the mean over the batch."""
    from torch.nn import functional

    return functional.kl_div(
        (logits / temperature).log_softmax(dim=-1),
        (teacher_logits / temperature).log_softmax(dim=-1),
        reduction="batchmean",
        log_target=True,
    )
