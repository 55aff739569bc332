"""Model soup: the uniform mean of several models' weights (Wortsman et al. 2022, arXiv 2203.05482).

The members are methods, of the same model, downstream set and seed. By default they are those of
ImageNet-RIB's poster, PRE-FT-EWC-LwF. (Its EWC is what this project calls `l2sp`.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, field_validator

from workers.methods.base import Method, MethodConfig, Workbench

if TYPE_CHECKING:
    from torch import nn


class SoupConfig(MethodConfig):
    """What goes into the soup."""

    members: tuple[str, ...] = Field(
        ("pretrained", "ft", "ewc", "lwf"), description="methods, by their names in the grid"
    )

    @field_validator("members")
    @classmethod
    def _distinct(cls, members: tuple[str, ...]) -> tuple[str, ...]:
        if len(members) < 2:
            raise ValueError("a soup needs at least two members")
        if repeated := sorted({name for name in members if members.count(name) > 1}):
            raise ValueError(f"members repeat: {', '.join(repeated)}")
        return members


class Soup(Method):
    """Evaluates the mean of its members' weights; trains nothing."""

    name: ClassVar[str] = "soup"
    Config: ClassVar[type[MethodConfig]] = SoupConfig
    config: SoupConfig

    @classmethod
    def starts_from(cls, config: MethodConfig) -> tuple[str, ...]:
        assert isinstance(config, SoupConfig)
        return config.members

    def build(self, bench: Workbench) -> nn.Module:
        from workers.models import average

        module = bench.pretrained()
        module.load_state_dict(average(bench.parents()))
        return module
