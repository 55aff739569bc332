"""How a model is trained: optimiser, schedule, epochs, batch and precision."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Recipe(BaseModel):
    """The paper's recipe by default (arXiv 2410.21582 and its code): no augmentation."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = Field(1e-3, gt=0, description="peak learning rate")
    momentum: float = Field(0.9, ge=0, lt=1, description="of SGD; AdamW ignores it")
    weight_decay: float = Field(0.0, ge=0)
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_steps: int = Field(196, ge=0, description="linear warm-up, in optimiser steps")
    epochs: int = Field(10, ge=1)
    batch_size: int = Field(64, ge=1)
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp16", description="of the forward pass in training; evaluation is always fp32"
    )

    def lr_factor(self, step: int, total_steps: int) -> float:
        """Return what `lr` is multiplied by at a step (0-based) of `total_steps`.

        Linear warm-up over `warmup_steps`, then 0.5 (1 + cos(pi t)) with t from 0 to 1 over the
        steps that are left (SGDR, arXiv 1608.03983, without restarts), or 1 when constant.
        """
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if self.schedule == "constant":
            return 1.0
        progress = (step - self.warmup_steps) / max(1, total_steps - self.warmup_steps)
        return 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
