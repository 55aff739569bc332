"""Entropic optimal transport between uniform point clouds, solved until it has converged.

OT_e(a, b) = min over couplings P of <C, P> + e KL(P | a b^T), by Sinkhorn's iteration in the log
domain, which POT does. The value is that of the dual, <f, a> + <g, b>: at most the minimum, and
off by the square of what the potentials f and g are off.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from workers.errors import Problem, UserError


class UnconvergedError(UserError):
    """The solver has not reached its tolerance, so there is no distance."""


@dataclass(frozen=True)
class Stopping:
    """When Sinkhorn's iteration ends."""

    tolerance: float = 1e-6
    """Of the marginals: what the rows' and the columns' sums are off, added up."""
    max_iterations: int = 10_000


@dataclass(frozen=True)
class Transport:
    """A transport problem that is solved."""

    value: float
    """OT_e, in the unit of the cost."""
    iterations: int
    marginal_error: float


@dataclass(frozen=True)
class _Reached:
    """Where the iteration has got to."""

    log_u: torch.Tensor
    log_v: torch.Tensor
    transport: Transport


def transport(cost: torch.Tensor, epsilon: float, stopping: Stopping) -> Transport:
    """Solve the problem between two clouds of points.

    Args:
        cost: float64 [N, M].
        epsilon: e, in the unit of the cost.
        stopping: when the iteration ends.

    Raises:
        UnconvergedError: when it ends before it has reached the tolerance.
    """
    reached = _iterate(cost, epsilon, stopping.tolerance, stopping.max_iterations)
    return _checked(reached.transport, stopping, "between the two sets")


def self_transport(cost: torch.Tensor, epsilon: float, stopping: Stopping) -> Transport:
    """Solve the problem between a cloud of points and itself; see `transport`.

    Both potentials are then equal. Averaging them after each iteration takes a few iterations where
    thousands would be needed (Feydy et al. 2019, arXiv 1810.08278).

    Args:
        cost: float64 [N, N], symmetric.
        epsilon: e, in the unit of the cost.
        stopping: when the iteration ends.

    Raises:
        UnconvergedError: when it ends before it has reached the tolerance.
    """
    reached = _iterate(cost, epsilon, stopping.tolerance, 1)
    for _ in range(1, stopping.max_iterations):
        if reached.transport.marginal_error <= stopping.tolerance:
            break
        reached = _iterate(cost, epsilon, stopping.tolerance, 1, after=reached)
    return _checked(reached.transport, stopping, "of a set with itself")


def _iterate(
    cost: torch.Tensor,
    epsilon: float,
    tolerance: float,
    max_iterations: int,
    after: _Reached | None = None,
) -> _Reached:
    """Iterate until the tolerance is reached; `after`: from the mean of these potentials."""
    import ot

    n, m = cost.shape
    rows, columns = cost.new_full((n,), 1 / n), cost.new_full((m,), 1 / m)
    mean = None if after is None else (after.log_u + after.log_v) / 2
    coupling, log = ot.bregman.sinkhorn_log(
        rows,
        columns,
        cost,
        epsilon,
        numItermax=max_iterations,
        # POT looks at the Euclidean norm of the columns' error, which bounds the sum like this.
        stopThr=tolerance / (2 * math.sqrt(m)),
        warmstart=None if mean is None else (mean, mean),
        log=True,
        warn=False,
    )
    error = (coupling.sum(1) - rows).abs().sum() + (coupling.sum(0) - columns).abs().sum()
    # With u = e^(f / epsilon) a, and v alike, and masses that are all equal.
    value = epsilon * (log["log_u"].mean() + log["log_v"].mean() + math.log(n) + math.log(m))
    done = int(log["niter"]) + 1 + (0 if after is None else after.transport.iterations)
    return _Reached(log["log_u"], log["log_v"], Transport(float(value), done, float(error)))


def _checked(found: Transport, stopping: Stopping, which: str) -> Transport:
    if found.marginal_error <= stopping.tolerance:  # not so for NaN
        return found
    message = (
        f"Sinkhorn has not converged: its marginals are off by {found.marginal_error:.2g} after "
        f"{found.iterations} iterations, the tolerance is {stopping.tolerance:.2g}"
    )
    hint = "raise epsilon or max_iterations of the grid's distance"
    raise UnconvergedError([Problem(f"transport {which}", message, hint)])
