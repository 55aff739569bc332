"""The baseline: the model as it came."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from workers.cell import BASELINE
from workers.methods.base import Method, Workbench

if TYPE_CHECKING:
    from torch import nn


class Pretrained(Method):
    """Nothing is done to the model; RI is measured from its accuracies."""

    name: ClassVar[str] = BASELINE

    def build(self, bench: Workbench) -> nn.Module:
        return bench.pretrained()
