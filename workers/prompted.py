"""A model with a learnt border added to its input (visual prompting)."""

from __future__ import annotations

import torch
from torch import nn


class Prompted(nn.Module):
    """Adds a prompt to the border of each normalised image, then asks a model."""

    mask: torch.Tensor

    def __init__(self, model: nn.Module, size: tuple[int, int, int], border: float) -> None:
        """Wrap a model.

        Args:
            model: takes images [B, *size].
            size: channels, height, width.
            border: width of the border, as a part of the image's side; at least a pixel.
        """
        super().__init__()
        self.model = model
        channels, height, width = size
        rows, columns = max(1, round(border * height)), max(1, round(border * width))
        mask = torch.ones(1, height, width)
        mask[:, rows : height - rows, columns : width - columns] = 0
        self.prompt = nn.Parameter(torch.zeros(channels, height, width))
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits [B, n_labels] of normalised images [B, C, H, W]."""
        logits: torch.Tensor = self.model(images + self.prompt * self.mask)
        return logits
