"""Model soup: the uniform mean of several models' weights (Wortsman et al. 2022, arXiv 2203.05482).

The members are methods, of the same model and downstream set. By default they are those of
ImageNet-RIB's poster, PRE-FT-EWC-LwF (whose EWC is what this project calls `l2sp`). With `seeds` it
is the mean over runs that differ in their seeds alone. BatchNorm's running statistics are averaged
like weights, unless they are estimated anew for the averaged weights, on the downstream set
(Izmailov et al. 2018, arXiv 1803.05407).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from workers.cell import BASELINE
from workers.methods.base import Method, MethodConfig, Workbench

if TYPE_CHECKING:
    from torch import nn


class Members(MethodConfig):
    """What may go into a soup."""

    members: tuple[str, ...] = Field(
        ("pretrained", "ft", "ewc", "lwf"), description="methods, by their names in the grid"
    )
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (), description="each member comes with each of these seeds; without any, with its own"
    )

    @field_validator("members", "seeds")
    @classmethod
    def _distinct(cls, values: tuple[Any, ...], info: ValidationInfo) -> tuple[Any, ...]:
        if repeated := sorted({value for value in values if values.count(value) > 1}):
            raise ValueError(f"{info.field_name} repeat: {', '.join(map(str, repeated))}")
        return values

    @model_validator(mode="after")
    def _enough(self) -> Self:
        others = len(self.members) - (BASELINE in self.members)
        if others * max(1, len(self.seeds)) + (BASELINE in self.members) < 2:
            raise ValueError("a soup needs at least two members")
        return self


class SoupConfig(Members):
    """What goes into the soup, and how much of each."""

    weights: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(
        None, description="a weight for each member; the same for all when not given"
    )
    recalibrate: bool = Field(
        False, description="estimate BatchNorm's running statistics anew on the downstream set"
    )

    @model_validator(mode="after")
    def _one_weight_each(self) -> Self:
        if self.weights is not None and self.seeds:
            raise ValueError("members of several seeds all have the same weight")
        if self.weights is not None and len(self.weights) != len(self.members):
            raise ValueError(f"{len(self.weights)} weights for {len(self.members)} members")
        return self


class Soup(Method):
    """Evaluates the mean of its members' weights; trains nothing."""

    name: ClassVar[str] = "soup"
    Config: ClassVar[type[MethodConfig]] = SoupConfig
    config: SoupConfig

    @classmethod
    def starts_from(cls, config: MethodConfig) -> tuple[str, ...]:
        assert isinstance(config, SoupConfig)
        return config.members

    @classmethod
    def seeds(cls, config: MethodConfig) -> tuple[int, ...]:
        assert isinstance(config, SoupConfig)
        return config.seeds

    def build(self, bench: Workbench) -> nn.Module:
        from workers.averaging import average

        module = bench.pretrained()
        module.load_state_dict(average(bench.parents(), self.config.weights))
        if self.config.recalibrate:
            recalibrate_batchnorm(module, bench)
        return module


def recalibrate_batchnorm(module: nn.Module, bench: Workbench) -> None:
    """Set BatchNorm's running statistics to their means over the downstream set, in place."""
    import torch
    from torch.optim.swa_utils import update_bn

    torch.manual_seed(bench.seed("recalibrate"))  # dropout, as in training
    _, source = bench.downstream()
    batches = source.batches(torch.arange(len(source)), 256)
    update_bn((bench.normalise(batch.pixels) for batch in batches), module)
    module.eval()
