"""The one evaluation loop: counts of right predictions, with and without the class mask."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from workers.holdout import Batches
from workers.scoring import Scorer

BATCH_SIZE = 256
"""Images that are scored together; no part of a cell's identity."""

Observe = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], None]
"""Is given each batch's logits [B, n_labels], those under the class mask, and labels int64 [B]."""


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
    observe: Observe | None = None,
) -> Score:
    """Score every image of a source in float32, in eval mode, and in the source's order."""
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
        if observe is not None:
            observe(logits, selected, labels)
    return Score(correct, correct_unmasked, total, loss / total)


@contextmanager
def undisturbed(module: nn.Module) -> Iterator[None]:
    """Let a module be evaluated in the middle of its training.

    Afterwards each of its parts is in the mode that it was in, and torch's generators are where
    they were. Weights and buffers stay as they are in eval mode anyway.
    """
    modes = {name: part.training for name, part in module.named_modules()}
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        module.train(modes[""])  # some architectures drop here what they cached in eval mode
        for name, part in module.named_modules():
            part.training = modes[name]
