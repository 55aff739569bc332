"""Visual prompting: a frozen model, and a border around its input that is learnt.

The prompt is added to the normalised image, on a border of some pixels on each side (Bahng et al.
2022, arXiv 2203.17274, padding prompts; drawn from N(0, 1) at the start as in the code of arXiv
2410.21582). It needs a learning rate of its own, far above that of weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from workers.methods.base import FineTuning, MethodConfig, Workbench
from workers.recipe import Recipe

if TYPE_CHECKING:
    from torch import nn

    from workers.prompted import Prompted


class VisualPromptConfig(MethodConfig):
    """Hyper-parameters of the prompt."""

    border: int = Field(30, ge=1, le=111, description="px on each side of an image of 224 px")
    lr: float = Field(40.0, gt=0, description="peak learning rate, in place of the recipe's")


class VisualPrompt(FineTuning):
    """Minimises the cross-entropy over the prompt alone."""

    name: ClassVar[str] = "visual-prompt"
    Config: ClassVar[type[MethodConfig]] = VisualPromptConfig
    keeps_architecture: ClassVar[bool] = False
    config: VisualPromptConfig

    def start(self, bench: Workbench) -> nn.Module:
        import torch

        module = self.assemble(bench.pretrained(), bench)
        generator = torch.Generator().manual_seed(bench.seed("prompt"))
        with torch.no_grad():
            module.prompt.copy_(torch.randn(module.prompt.shape, generator=generator))
        return module.to(bench.device)

    def assemble(self, module: nn.Module, bench: Workbench) -> Prompted:
        from workers.prompted import Prompted

        return Prompted(module, bench.input_size, self.config.border / 224)

    def prepare(self, module: nn.Module, bench: Workbench) -> None:  # noqa: ARG002
        from workers.methods._freeze import train_only

        train_only(module, ["prompt"])

    def recipe(self, recipe: Recipe) -> Recipe:
        return recipe.model_copy(update={"lr": self.config.lr, "layer_decay": None})

    def set_mode(self, module: nn.Module) -> None:
        module.eval()
