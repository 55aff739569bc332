"""The one evaluation loop: counts of right predictions, with and without the class mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from workers.holdout import Batches
from workers.scoring import Scorer

BATCH_SIZE = 256
"""Images that are scored together; no part of a cell's identity."""


@dataclass(frozen=True)
class Score:
    """What one model got on one evaluation split. Counts, never percentages."""

    n_correct: int
    n_correct_unmasked: int
    n_total: int
    loss: float
    """Mean cross-entropy over the class mask."""


@torch.inference_mode()
def evaluate(
    module: nn.Module,
    source: Batches,
    scorer: Scorer,
    normalise: Callable[[torch.Tensor], torch.Tensor],
    batch_size: int = BATCH_SIZE,
) -> Score:
    """Score every image of a source in float32, in eval mode."""
    module.eval()
    correct, correct_unmasked, total, loss = 0, 0, 0, 0.0
    for batch in source.batches(torch.arange(len(source)), batch_size):
        images = normalise(batch.pixels)
        labels = batch.labels.to(images.device, non_blocking=True)
        logits = module(images).float()
        selected = scorer.select(logits)
        correct += int(scorer.correct(selected, labels).sum())
        correct_unmasked += int(scorer.correct_unmasked(logits, labels).sum())
        loss += float(scorer.cross_entropy(selected, labels, reduction="sum"))
        total += len(labels)
    return Score(correct, correct_unmasked, total, loss / total)
