"""Passes of the pre-trained model over the downstream set, for methods that need what it says.

Images are never augmented, so a frozen model says the same to an image in every epoch: one pass
serves all epochs of every cell. It goes over the images in their order on disk, in batches of one
size, in float32 and eval mode, so that its numbers do not depend on who computes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from workers.holdout import Batches
from workers.images import Batch, ImageSource, batch_indices

BATCH = 256


@torch.inference_mode()
def features_of(
    module: Any, source: Batches, normalise: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """Return the input of a model's classifier for every image: float32 [N, D], on the CPU.

    Raises:
        ValueError: when the classifier, applied to them, does not give the model's logits.
    """
    module.eval()
    parts: list[torch.Tensor] = []
    for batch in source.batches(torch.arange(len(source)), BATCH):
        images = normalise(batch.pixels)
        features = module.forward_head(module.forward_features(images), pre_logits=True)
        if not parts:
            _check(module, features, module(images))
        parts.append(features.float().cpu())
    return torch.cat(parts).clone()


def _check(module: Any, features: torch.Tensor, logits: torch.Tensor) -> None:
    again = module.get_classifier()(features)
    if again.shape != logits.shape or not torch.allclose(again, logits, rtol=1e-3, atol=1e-3):
        raise ValueError(f"{type(module).__name__}: its head is more than one linear layer")


@torch.inference_mode()
def logits_of(
    module: nn.Module,
    source: ImageSource,
    normalise: Callable[[torch.Tensor], torch.Tensor],
    select: Callable[[torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """Return a model's logits for every image, restricted by `select`: float32 [N, C], CPU."""
    module.eval()
    parts = [
        select(module(normalise(batch.pixels))).float().cpu()
        for batch in source.batches(torch.arange(len(source)), BATCH)
    ]
    return torch.cat(parts).clone()


class TensorSource:
    """Tensors in place of images: what a part of a model is trained on."""

    def __init__(self, inputs: torch.Tensor, labels: torch.Tensor) -> None:
        """Take inputs [N, ...] and labels int64 [N], both on the CPU."""
        self.inputs, self.labels = inputs, labels

    def __len__(self) -> int:
        return len(self.inputs)

    def batches(self, order: torch.Tensor, batch_size: int) -> Iterator[Batch]:
        """Yield the inputs at the places that `order` names, as `ImageSource.batches` does."""
        for part in batch_indices(order, batch_size):
            yield Batch(self.inputs[part], self.labels[part], part)
