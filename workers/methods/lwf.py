"""Learning without forgetting (Li and Hoiem 2016, arXiv 1606.09282), as in ImageNet-RIB.

The loss is cross-entropy + alpha * KL(softmax(z0 / T) || softmax(z / T)), the KL divergence meant
over the batch, where z0 are the logits of the pre-trained model. Both sides are restricted to the
downstream set's classes. As in the code of arXiv 2410.21582 there is no factor T^2.

Images are not augmented, so z0 is the same in every epoch: it is computed once for all cells of a
model and set, unless the set is so large that keeping it would cost more than it saves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from workers.methods.base import FineTuning, MethodConfig, Workbench

if TYPE_CHECKING:
    import torch
    from torch import nn

    from workers.train import Step


KEPT_LOGITS = 1 << 30
"""Bytes of teacher logits up to which they are computed once; above, with each batch."""


class LwFConfig(MethodConfig):
    """Hyper-parameters of LwF."""

    alpha: float = Field(1.0, ge=0, description="weight of the distillation term")
    temperature: float = Field(2.0, gt=0, description="T of both softmaxes")


class LwF(FineTuning):
    """Minimises cross-entropy + alpha * KL to the pre-trained model's predictions."""

    name: ClassVar[str] = "lwf"
    version: ClassVar[int] = 2
    Config: ClassVar[type[MethodConfig]] = LwFConfig
    shares: ClassVar[str | None] = "logits"
    config: LwFConfig

    def prepare(self, module: nn.Module, bench: Workbench) -> None:  # noqa: ARG002
        dataset, source = bench.downstream()
        self.before: torch.Tensor | None = None
        if 4 * len(source) * len(dataset.classes.columns) <= KEPT_LOGITS:
            self.before = bench.frozen_logits()
        else:
            self.teacher = bench.pretrained().requires_grad_(False)

    def loss(self, step: Step) -> torch.Tensor:
        distance = distillation(step.logits, self._before(step), self.config.temperature)
        return step.cross_entropy() + self.config.alpha * distance

    def _before(self, step: Step) -> torch.Tensor:
        """Return the pre-trained model's logits for a batch, under the class mask: [B, C]."""
        import torch

        if self.before is not None:
            return step.rows_of(self.before)
        with torch.no_grad():
            return step.select(self.teacher(step.images))


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
