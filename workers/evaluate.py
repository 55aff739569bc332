"""The one evaluation loop: counts of right predictions, with and without the class mask."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from workers.holdout import Batches
from workers.scoring import Scorer
from workers.transfer import to_device

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


def evaluate(
    module: nn.Module,
    source: Batches,
    scorer: Scorer,
    normalise: Callable[[torch.Tensor], torch.Tensor],
    batch_size: int = BATCH_SIZE,
    observe: Observe | None = None,
) -> Score:
    """Score every image of a source in float32, in eval mode, and in the source's order."""
    (found,) = evaluate_together([module], source, scorer, normalise, batch_size, observe)
    return found


@torch.inference_mode()
def evaluate_together(
    modules: Sequence[nn.Module],
    source: Batches,
    scorer: Scorer,
    normalise: Callable[[torch.Tensor], torch.Tensor],
    batch_size: int = BATCH_SIZE,
    observe: Observe | None = None,
) -> list[Score]:
    """Score several modules in one pass over a source: each gets the batches it would get alone.

    Args:
        modules: that take the same input.
        source: of the images; each is decoded once.
        scorer: of their set.
        normalise: turns uint8 pixels [B, C, H, W] into the modules' input on their device.
        batch_size: images that a module is given at a time.
        observe: is given what the first module says of each batch.

    Returns:
        Their scores, in their order.
    """
    tallies = [Tally(module.eval(), scorer) for module in modules]
    for batch in source.batches(torch.arange(len(source)), batch_size):
        images = normalise(batch.pixels)
        labels = to_device(batch.labels, images.device)
        for tally in tallies:
            logits, selected = tally.add(images, labels)
            if observe is not None and tally is tallies[0]:
                observe(logits, selected, labels)
    return [tally.score for tally in tallies]


class Tally:
    """Counts what a module gets right, batch by batch.

    It counts on the device and is read at the end: who reads a number waits for the device, which
    then waits for its next batch.
    """

    def __init__(self, module: nn.Module, scorer: Scorer) -> None:
        self._module, self._scorer = module, scorer
        self._correct = torch.zeros((), dtype=torch.int64, device=scorer.device)
        self._correct_unmasked = torch.zeros_like(self._correct)
        self._loss = torch.zeros((), dtype=torch.float64, device=scorer.device)
        self._total = 0

    def add(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Take a batch, and return its logits [B, n_labels] and those under the class mask."""
        scorer = self._scorer
        logits = self._module(images).float()
        selected = scorer.select(logits)
        self._correct += scorer.correct(selected, labels).sum()
        self._correct_unmasked += scorer.correct_unmasked(logits, labels).sum()
        self._loss += scorer.cross_entropy(selected, labels, reduction="sum")
        self._total += len(labels)
        return logits, selected

    @property
    def score(self) -> Score:
        """What it got so far."""
        mean = float(self._loss) / self._total
        return Score(int(self._correct), int(self._correct_unmasked), self._total, mean)


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
