"""Linear probing: the classifier alone is trained, on features that stay as they were.

The backbone is in eval mode, so that neither BatchNorm statistics nor dropout move (the probe of
Kumar et al. 2022, arXiv 2202.10054). Images are not augmented, so their features are the same in
every epoch: one pass of the backbone makes them, once for all cells of a model and set, instead of
one pass per epoch.

The code of arXiv 2410.21582 also trains the class token, the position embedding and the norms; that
variant is `also_train: [cls_token, pos_embed, "*norm*"]`, and costs what fine-tuning costs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from workers.methods._freeze import matching, train_only
from workers.methods.base import FineTuning, MethodConfig, Workbench
from workers.recipe import Recipe

if TYPE_CHECKING:
    from torch import nn


class LinearProbeConfig(MethodConfig):
    """What is trained besides the classifier."""

    also_train: tuple[str, ...] = Field(
        (), description="shell patterns of parameters to train besides the classifier"
    )


class LinearProbe(FineTuning):
    """Minimises the cross-entropy over the classifier's weights alone."""

    name: ClassVar[str] = "lp"
    version: ClassVar[int] = 2
    Config: ClassVar[type[MethodConfig]] = LinearProbeConfig
    shares: ClassVar[str | None] = "features"
    relative_cost: ClassVar[float] = 0.05  # the backbone runs once, not forward and back each epoch
    config: LinearProbeConfig

    @classmethod
    def unfit(cls, config: MethodConfig, module: nn.Module) -> str:
        assert isinstance(config, LinearProbeConfig)
        if not classifier_parameters(module):
            return "the architecture has no linear classifier"
        strays = [p for p in config.also_train if not matching(module, [p])]
        return f"no parameter matches also_train {strays}" if strays else ""

    @classmethod
    def cost(cls, config: MethodConfig) -> float:
        assert isinstance(config, LinearProbeConfig)
        return 1.0 if config.also_train else cls.relative_cost

    @classmethod
    def shared_pass(cls, config: MethodConfig) -> str | None:
        assert isinstance(config, LinearProbeConfig)
        return None if config.also_train else cls.shares

    def build(self, bench: Workbench) -> nn.Module:
        if self.config.also_train:
            return super().build(bench)
        self.whole = bench.pretrained()
        bench.train(classifier_of(self.whole), self, inputs=bench.frozen_features())
        return self.whole

    def evaluated(self, module: nn.Module) -> nn.Module:
        return module if self.config.also_train else self.whole

    def prepare(self, module: nn.Module, bench: Workbench) -> None:  # noqa: ARG002
        chosen = matching(module, self.config.also_train)
        train_only(module, [*classifier_parameters(module), *chosen])

    def recipe(self, recipe: Recipe) -> Recipe:
        # What is trained is one layer: there are none to scale against each other.
        return recipe.model_copy(update={"layer_decay": None})

    def set_mode(self, module: nn.Module) -> None:
        module.eval()


def classifier_parameters(module: nn.Module) -> list[str]:
    """Return the names of the parameters of a timm model's classifier; none if it has none."""
    from torch import nn

    classifier = classifier_of(module)
    if not isinstance(classifier, nn.Linear):
        return []
    own = {id(parameter) for parameter in classifier.parameters()}
    return [name for name, parameter in module.named_parameters() if id(parameter) in own]


def classifier_of(module: Any) -> nn.Module:
    """Return the layer of a timm model that makes logits of features."""
    classifier: nn.Module = module.get_classifier()
    return classifier
