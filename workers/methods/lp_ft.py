"""LP-FT: fine-tuning from a linear probe (Kumar et al. 2022, arXiv 2202.10054).

A head that fits the downstream set from the start keeps the features from being distorted while
it learns. Both phases follow the cell's recipe, as in arXiv 2410.21582.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from workers.methods.base import FineTuning, MethodConfig, Workbench

if TYPE_CHECKING:
    from torch import nn


class LPFTConfig(MethodConfig):
    """What fine-tuning starts from."""

    start: str = Field("lp", min_length=1, description="a method, by its name in the grid")


class LPFT(FineTuning):
    """Minimises the cross-entropy over all weights, from another method's result."""

    name: ClassVar[str] = "lp-ft"
    Config: ClassVar[type[MethodConfig]] = LPFTConfig
    config: LPFTConfig

    @classmethod
    def starts_from(cls, config: MethodConfig) -> tuple[str, ...]:
        assert isinstance(config, LPFTConfig)
        return (config.start,)

    def start(self, bench: Workbench) -> nn.Module:
        module = bench.pretrained()
        (probed,) = bench.parents()
        module.load_state_dict(probed)
        return module
