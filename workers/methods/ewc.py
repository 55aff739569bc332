"""Elastic weight consolidation (Kirkpatrick et al. 2017, arXiv 1612.00796), with a Fisher matrix.

The penalty is lambda * sum_k F_k (theta_k - theta0_k)^2, where F is the diagonal of the Fisher
information of the pre-trained model: F_k = mean over images x of (d log p(y | x) / d theta_k)^2
with y drawn from the model's own prediction p(. | x). (The paper writes lambda / 2; here the
factor is part of lambda, as in the code of ImageNet-RIB.)

Which images: EWC wants those of the old task. No benchmark run may look at the ID test set, and
ImageNet-RIB has no other ID images, so by default the Fisher matrix is that of the pre-trained
model at the downstream images. Their labels are not used. A suite that has ID images which nothing
is tested on may use them: `data: id-train`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from workers.methods._penalty import anchor_of, quadratic_penalty
from workers.methods.base import FineTuning, MethodConfig, Workbench

if TYPE_CHECKING:
    import torch
    from torch import nn

    from workers.train import Step


class EWCConfig(MethodConfig):
    """Hyper-parameters of EWC."""

    strength: float = Field(1.0, ge=0, description="lambda in lambda * sum F (theta - theta0)^2")
    fisher_samples: int = Field(1024, ge=1, description="images that the Fisher matrix is from")
    data: Literal["downstream", "id-train"] = Field(
        "downstream", description="where those images are from"
    )
    fisher_seed: int = Field(0, ge=0, description="which images are drawn, and which labels")


class EWC(FineTuning):
    """Minimises cross-entropy + strength * sum F (theta - theta0)^2."""

    name: ClassVar[str] = "ewc"
    version: ClassVar[int] = 2
    Config: ClassVar[type[MethodConfig]] = EWCConfig
    config: EWCConfig

    @classmethod
    def reads_id_train(cls, config: MethodConfig) -> bool:
        assert isinstance(config, EWCConfig)
        return config.data == "id-train"

    def prepare(self, module: nn.Module, bench: Workbench) -> None:
        self.anchor = anchor_of(module)
        self.fisher = self._shared_fisher(module, bench)

    def loss(self, step: Step) -> torch.Tensor:
        penalty = quadratic_penalty(step.module, self.anchor, self.fisher)
        return step.cross_entropy() + self.config.strength * penalty

    def _shared_fisher(self, module: nn.Module, bench: Workbench) -> dict[str, torch.Tensor]:
        """Return the matrix that all cells of this model and set share, on the device."""
        settings = self.config.model_dump(mode="json", exclude={"strength"})
        if self.config.data == "id-train":
            settings["images"] = bench.id_train()[0].digest
        fisher = bench.shared("fisher", settings, lambda: self._fisher(module, bench))
        return {name: tensor.to(bench.device) for name, tensor in fisher.items()}

    def _fisher(self, module: nn.Module, bench: Workbench) -> dict[str, torch.Tensor]:
        """Estimate the diagonal Fisher matrix on a seeded sample of images, in eval mode, fp32."""
        import torch

        from_id = self.config.data == "id-train"
        _, source = bench.id_train() if from_id else bench.downstream()
        generator = torch.Generator().manual_seed(self.config.fisher_seed)
        order = torch.randperm(len(source), generator=generator)[: self.config.fisher_samples]
        total = {name: torch.zeros_like(tensor) for name, tensor in self.anchor.items()}
        for batch in source.batches(order, 32):
            squares = squared_score(module, bench.normalise(batch.pixels), generator)
            for name, square in squares.items():
                total[name] += square
        return {name: (square / len(order)).cpu() for name, square in total.items()}


def squared_score(
    module: nn.Module, images: torch.Tensor, generator: torch.Generator
) -> dict[str, torch.Tensor]:
    """Return sum over images of (d log p(y | x) / d theta)^2 for each trained parameter.

    Args:
        module: a model in eval mode, so that images do not mix in BatchNorm.
        images: normalised, [B, C, H, W].
        generator: draws each image's y from the model's own prediction, on the CPU.
    """
    import torch
    from torch.func import functional_call, grad, vmap

    frozen = dict(module.named_buffers())
    trained: dict[str, torch.Tensor] = {}
    for name, parameter in module.named_parameters():
        (trained if parameter.requires_grad else frozen)[name] = parameter.detach()

    def log_likelihood(
        parameters: dict[str, torch.Tensor], image: torch.Tensor, label: torch.Tensor
    ) -> torch.Tensor:
        logits = functional_call(module, {**parameters, **frozen}, (image[None],))
        log_p: torch.Tensor = logits.log_softmax(dim=-1)[0]
        return log_p.gather(0, label[None])[0]

    with torch.no_grad():
        probabilities = module(images).softmax(dim=-1).cpu()
    drawn = torch.multinomial(probabilities, 1, generator=generator)[:, 0].to(images.device)
    scores = vmap(grad(log_likelihood), in_dims=(None, 0, 0))(trained, images, drawn)
    return {name: score.square().sum(dim=0) for name, score in scores.items()}
