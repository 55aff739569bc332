"""Which images of a set stand for it."""

from __future__ import annotations

import torch


def balanced_sample(labels: torch.Tensor, n: int, seed: int) -> torch.Tensor:
    """Draw at most n images, equally many of each class as far as it has them.

    Args:
        labels: int64 [N].
        n: how many; all of the set when it has no more.
        seed: decides which, and which classes give one more where n does not divide evenly.

    Returns:
        Their places in ascending order: int64 [min(n, N)].
    """
    if len(labels) <= n:
        return torch.arange(len(labels))
    generator = torch.Generator().manual_seed(seed)
    classes, counts = labels.unique(return_counts=True)
    quotas = balanced_quotas(counts, n, torch.randperm(len(classes), generator=generator))
    chosen = []
    for label, quota in zip(classes, quotas.tolist(), strict=True):
        places = torch.nonzero(labels == label)[:, 0]
        chosen.append(places[torch.randperm(len(places), generator=generator)[:quota]])
    return torch.cat(chosen).sort().values


def balanced_quotas(counts: torch.Tensor, n: int, order: torch.Tensor) -> torch.Tensor:
    """Share n images out to classes, as evenly as their counts (int64 [K]) allow: int64 [K].

    Args:
        counts: images of each class; n is at most their sum.
        n: how many images.
        order: of the classes, int64 [K]: the first ones give one more where it does not go even.
    """
    quotas = torch.zeros_like(counts)
    left = n
    while left:
        open_to = order[quotas[order] < counts[order]]
        share = left // len(open_to)
        more = torch.minimum((counts - quotas)[open_to], torch.tensor(max(share, 1)))
        if not share:
            more = more[:left]
        quotas[open_to[: len(more)]] += more
        left = n - int(quotas.sum())
    return quotas
