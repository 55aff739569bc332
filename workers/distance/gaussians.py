"""A Gaussian for each class of a data set, and the Wasserstein distances between them.

W2^2(N(m, S), N(m', S')) = ||m - m'||^2 + tr(S + S' - 2 (S^1/2 S' S^1/2)^1/2), the second term being
the squared Bures distance (Dowson and Landau 1982). For diagonal covariances it is
||s - s'||^2 with the standard deviations s.

A class with fewer images than dimensions has a singular sample covariance. So the covariance is
either `diagonal` (the variances alone, unbiased) or `shrunk` towards a multiple of the identity, by
as much as suits a Gaussian with so few samples: OAS (Chen, Wiesel, Eldar and Hero 2010, "Shrinkage
algorithms for MMSE covariance estimation", arXiv 0907.4698), as scikit-learn computes it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from workers.distance.settings import Covariance

MIN_IMAGES = 2
"""Of a class: one image has no covariance."""


@dataclass(frozen=True)
class Gaussians:
    """One Gaussian per class, in float64."""

    means: torch.Tensor
    """[K, D]"""
    spreads: torch.Tensor
    """[K, D] standard deviations, or [K, D, D] covariances."""

    @property
    def is_diagonal(self) -> bool:
        return self.spreads.ndim == 2


def gaussians_of(
    features: torch.Tensor, labels: torch.Tensor, covariance: Covariance
) -> tuple[Gaussians, torch.Tensor]:
    """Estimate the Gaussian of each class that is there.

    Args:
        features: float64 [N, D].
        labels: int64 [N], on the same device.
        covariance: how covariances are estimated.

    Returns:
        K Gaussians, and for each image which of them is its class's: int64 [N].

    Raises:
        ValueError: when a class has fewer than MIN_IMAGES images.
    """
    _, places, counts = labels.unique(return_inverse=True, return_counts=True)
    if int(counts.min()) < MIN_IMAGES:
        raise ValueError(f"a class has {int(counts.min())} image, and needs {MIN_IMAGES}")
    groups = [features[places == k] for k in range(len(counts))]
    means = torch.stack([group.mean(0) for group in groups])
    spread = _deviations if covariance == "diagonal" else _shrunk_covariance
    return Gaussians(means, torch.stack([spread(group) for group in groups])), places


def _deviations(group: torch.Tensor) -> torch.Tensor:
    return group.std(0)


def _shrunk_covariance(group: torch.Tensor) -> torch.Tensor:
    from sklearn.covariance import oas

    covariance, _ = oas(group.cpu().numpy())
    return torch.as_tensor(covariance).to(group)


def squared_distances(ours: Gaussians, theirs: Gaussians) -> torch.Tensor:
    """Return W2^2 between two families of Gaussians: float64 [K, K'].

    Diagonal ones cost K K' D operations, others K K' D^3.
    """
    import ot

    if ours.is_diagonal:
        # With commuting covariances this is Euclidean: in the means and in the deviations.
        at, there = (torch.cat([g.means, g.spreads], 1) for g in (ours, theirs))
        euclidean: torch.Tensor = ot.dist(at, there)
        return euclidean
    rows = [
        ot.gaussian.bures_wasserstein_distance(
            ours.means[k : k + 1], theirs.means, ours.spreads[k : k + 1], theirs.spreads
        )
        for k in range(len(ours.means))
    ]
    distances: torch.Tensor = torch.cat(rows)
    return distances.square()
