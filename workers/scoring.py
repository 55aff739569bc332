"""Which predictions are right, and the loss that goes with it: class masks and label sets."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from workers.labels import ClassMap


class Scorer:
    """Scores logits over a label space by a data set's ClassMap, on one device."""

    def __init__(self, classes: ClassMap, device: torch.device) -> None:
        self.device = device
        self.columns = torch.tensor(classes.columns, device=device) if classes.is_masked else None
        self.is_one_to_one = classes.is_one_to_one
        first = [targets[0] for targets in classes.masked_targets]
        self._first_target = torch.tensor(first, device=device)
        self._masked = _membership(classes.masked_targets, len(classes.columns), device)
        self._unmasked = _membership(classes.targets, classes.n_labels, device)

    def select(self, logits: torch.Tensor) -> torch.Tensor:
        """Restrict logits [B, n_labels] to the class mask: [B, n_columns]."""
        return logits if self.columns is None else logits[:, self.columns]

    def cross_entropy(
        self,
        selected: torch.Tensor,
        labels: torch.Tensor,
        reduction: str = "mean",
        smoothing: float = 0.0,
    ) -> torch.Tensor:
        """Return -log of the probability that the masked softmax gives to a right class.

        For a class with one target that is the cross-entropy. For one with several (ObjectNet) any
        of them is right, so their probabilities add: logsumexp(all) - logsumexp(targets). Label
        smoothing (Szegedy et al. 2016, arXiv 1512.00567) mixes in the mean over all columns.

        Args:
            selected: logits under the mask, [B, n_columns].
            labels: positions in the ClassMap, int64 [B].
            reduction: `mean` or `sum` over the batch.
            smoothing: the share of that mean, in [0, 1).
        """
        if self.is_one_to_one:
            target = self._first_target[labels]
            return functional.cross_entropy(
                selected, target, reduction=reduction, label_smoothing=smoothing
            )
        right = selected.masked_fill(~self._masked[labels], -torch.inf)
        losses = selected.logsumexp(dim=-1) - right.logsumexp(dim=-1)
        if smoothing:
            of_all = -selected.log_softmax(dim=-1).mean(dim=-1)
            losses = (1 - smoothing) * losses + smoothing * of_all
        return losses.mean() if reduction == "mean" else losses.sum()

    def correct(self, selected: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Whether the arg-max over the class mask is a target of the image's class: bool [B]."""
        return _hits(selected, self._masked[labels])

    def top1(self, selected: torch.Tensor) -> torch.Tensor:
        """Return the arg-max over the class mask, as label-space indices: int64 [B]."""
        best = selected.argmax(dim=-1)
        return best if self.columns is None else self.columns[best]

    def correct_unmasked(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Whether the arg-max over the whole label space is a target: bool [B]."""
        return _hits(logits, self._unmasked[labels])


def _membership(
    targets: tuple[tuple[int, ...], ...], width: int, device: torch.device
) -> torch.Tensor:
    """Return bool [n_classes, width]: whether an index counts as right for a class."""
    table = np.zeros((len(targets), width), dtype=np.bool_)
    for row, indices in enumerate(targets):
        table[row, list(indices)] = True
    return torch.from_numpy(table).to(device)  # in one piece: a GPU would take a copy a row


def _hits(logits: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return right.gather(1, logits.argmax(dim=-1, keepdim=True))[:, 0]
