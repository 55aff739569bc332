"""How a model is trained: optimiser, schedule, epochs, batch, precision and what is held out."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


class Augmentation(BaseModel):
    """timm's training transform: random resized crops, flips, colours, policies."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    scale: tuple[Share, Share] = Field((0.08, 1.0), description="of a crop's area")
    ratio: tuple[Positive, Positive] = Field((0.75, 4 / 3), description="of a crop's sides")
    hflip: float = Field(0.5, ge=0, le=1, description="how often an image is mirrored")
    color_jitter: float = Field(0.0, ge=0, description="of brightness, contrast and saturation")
    policy: str | None = Field(
        None, pattern=r"^(rand|augmix|original|v0|3a)", description="timm's name, as rand-m9-n2"
    )


class Recipe(BaseModel):
    """The paper's recipe by default (arXiv 2410.21582 and its code): no augmentation."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    optimizer: Literal["sgd", "adamw"] = Field("sgd", description="SGD has no Nesterov momentum")
    lr: float = Field(1e-3, gt=0, description="peak learning rate")
    momentum: float = Field(0.9, ge=0, lt=1, description="of SGD; AdamW ignores it")
    weight_decay: float = Field(
        0.0, ge=0, description="of SGD part of the gradient, of AdamW decoupled"
    )
    decay_norms_and_biases: bool = Field(
        True, description="whether weight decay pulls at norms and biases, too"
    )
    layer_decay: float | None = Field(
        None, gt=0, le=1, description="learning rate of a layer over that of the one after it"
    )
    clip_grad: float | None = Field(None, gt=0, description="the gradient's largest norm")
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="part of the target that is spread over the classes"
    )
    schedule: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="after the warm-up, per step: to 0, or constant"
    )
    warmup_steps: int = Field(196, ge=0, description="linear warm-up, in optimiser steps")
    warmup_epochs: float | None = Field(
        None, ge=0, description="the same in epochs; takes the place of warmup_steps"
    )
    epochs: int = Field(10, ge=1, description="passes over the set")
    batch_size: int = Field(64, ge=1, description="images a step")
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp16", description="of the forward pass in training; evaluation is always fp32"
    )
    augment: Augmentation | None = Field(
        None, description="random changes to the images that are trained on; none in the paper"
    )
    holdout: float = Field(
        0.0, ge=0, lt=1, description="part of the downstream set that is not trained on"
    )
    patience: int | None = Field(
        None,
        ge=1,
        description="epochs without a better held-out accuracy after which training stops; needs "
        "`holdout`",
    )

    @model_validator(mode="after")
    def _early_stop_needs_a_holdout(self) -> Recipe:
        if self.patience is not None and not self.holdout:
            raise ValueError("patience needs a holdout: stopping must not look at a test set")
        return self

    def n_warmup_steps(self, steps_per_epoch: int) -> int:
        """Return the length of the warm-up in optimiser steps."""
        if self.warmup_epochs is None:
            return self.warmup_steps
        return round(self.warmup_epochs * steps_per_epoch)

    def lr_factor(self, step: int, total_steps: int, warmup_steps: int | None = None) -> float:
        """Return what `lr` is multiplied by at a step (0-based) of `total_steps`.

        Linear warm-up over `warmup_steps` (those of the recipe by default), then with t from 0 to 1
        over the steps that are left: 0.5 (1 + cos(pi t)) (SGDR, arXiv 1608.03983, without
        restarts), 1 - t when linear, or 1 when constant.
        """
        warmup = self.warmup_steps if warmup_steps is None else warmup_steps
        if step < warmup:
            return (step + 1) / warmup
        if self.schedule == "constant":
            return 1.0
        progress = min(1.0, (step - warmup) / max(1, total_steps - warmup))
        if self.schedule == "linear":
            return 1.0 - progress
        return 0.5 * (1.0 + math.cos(math.pi * progress))
