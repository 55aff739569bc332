"""WiSE-FT: between the pre-trained and the fine-tuned weights (Wortsman et al. 2022).

theta = (1 - alpha) theta0 + alpha theta1 (arXiv 2109.01903, equation 1), for every floating entry
of the state dict. A grid may give a list of alphas: one cell each, from one fine-tuning run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from workers.cell import BASELINE
from workers.methods.base import Method, MethodConfig, Workbench

if TYPE_CHECKING:
    from torch import nn


class WiSEFTConfig(MethodConfig):
    """Where between the two ends."""

    alpha: float = Field(0.5, ge=0, le=1, description="weight of the fine-tuned end")
    start: str = Field("ft", min_length=1, description="that end: a method, by its grid name")


class WiSEFT(Method):
    """Evaluates a mean of the pre-trained and the fine-tuned weights; trains nothing."""

    name: ClassVar[str] = "wise-ft"
    Config: ClassVar[type[MethodConfig]] = WiSEFTConfig
    expands: ClassVar[str | None] = "alpha"
    config: WiSEFTConfig

    @classmethod
    def starts_from(cls, config: MethodConfig) -> tuple[str, ...]:
        assert isinstance(config, WiSEFTConfig)
        return (BASELINE, config.start)

    def build(self, bench: Workbench) -> nn.Module:
        from workers.averaging import average

        module = bench.pretrained()
        alpha = self.config.alpha
        module.load_state_dict(average(bench.parents(), (1 - alpha, alpha)))
        return module
