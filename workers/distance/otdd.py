"""The optimal transport dataset distance, OTDD.

Alvarez-Melis and Fusi 2020, "Geometric dataset distances via optimal transport", arXiv 2002.02923.
Labelled points are moved at the cost

    c((x, y), (x', y')) = 1/2 ||x - x'||^2 + 1/2 W2^2(N_y, N_y')

with a Gaussian N_y for each class (`workers.distance.gaussians`), and the distance of two sets is
the debiased Sinkhorn divergence (Feydy et al. 2019, arXiv 1810.08278)

    S_e(a, b) = OT_e(a, b) - 1/2 OT_e(a, a) - 1/2 OT_e(b, b)

of their uniform distributions. It is in the unit of the cost, a squared length: no root is taken,
as in the paper's code.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from workers.distance.gaussians import Gaussians, gaussians_of, squared_distances
from workers.distance.settings import Covariance
from workers.distance.sinkhorn import Stopping, Transport, self_transport, transport


@dataclass(frozen=True)
class LabelledSet:
    """Labelled points with the Gaussian of each class."""

    features: torch.Tensor
    """float64 [N, D]"""
    classes: torch.Tensor
    """int64 [N]: which of the Gaussians is that of the point's class."""
    gaussians: Gaussians

    def __len__(self) -> int:
        return len(self.features)

    @property
    def n_classes(self) -> int:
        return len(self.gaussians.means)

    def cost_to(self, other: LabelledSet) -> torch.Tensor:
        """Return the cost of moving each of these points to each of another set: [N, N']."""
        import ot

        of_labels = squared_distances(self.gaussians, other.gaussians)
        cost: torch.Tensor = ot.dist(self.features, other.features)
        cost += of_labels[self.classes][:, other.classes]
        return cost.mul_(0.5)

    @cached_property
    def own_cost(self) -> torch.Tensor:
        """The cost of moving each point to each: [N, N]."""
        return self.cost_to(self)


def labelled_set(
    features: torch.Tensor, labels: torch.Tensor, covariance: Covariance
) -> LabelledSet:
    """Make a labelled set of features [N, D] and labels int64 [N].

    Raises:
        ValueError: when a class has a single image.
    """
    points = features.double()
    gaussians, classes = gaussians_of(points, labels, covariance)
    return LabelledSet(points, classes, gaussians)


@dataclass(frozen=True)
class Divergence:
    """A debiased Sinkhorn divergence and what it is made of."""

    cross: Transport
    ours: Transport
    theirs: Transport

    @property
    def value(self) -> float:
        return self.cross.value - (self.ours.value + self.theirs.value) / 2

    @property
    def iterations(self) -> int:
        """Of all three problems."""
        return self.cross.iterations + self.ours.iterations + self.theirs.iterations

    @property
    def marginal_error(self) -> float:
        """The largest of the three."""
        return max(part.marginal_error for part in (self.cross, self.ours, self.theirs))


def otdd(
    ours: LabelledSet,
    theirs: LabelledSet,
    epsilon: float,
    stopping: Stopping | None = None,
    our_own: Transport | None = None,
) -> Divergence:
    """Return the distance of two labelled sets.

    Args:
        ours: one set.
        theirs: the other, on the same device.
        epsilon: in the unit of the cost.
        stopping: when the solver ends.
        our_own: the problem of `ours` with itself, where it has been solved already.

    Raises:
        UnconvergedError: when a problem is not solved by then.
    """
    stopping = stopping or Stopping()
    return Divergence(
        cross=transport(ours.cost_to(theirs), epsilon, stopping),
        ours=our_own or own_transport(ours, epsilon, stopping),
        theirs=own_transport(theirs, epsilon, stopping),
    )


def own_transport(one: LabelledSet, epsilon: float, stopping: Stopping) -> Transport:
    """Solve the problem of a set with itself."""
    return self_transport(one.own_cost, epsilon, stopping)
