"""OTDD: its label metric, its solver and its value, against formulas and other solvers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.linalg import sqrtm
from scipy.optimize import linear_sum_assignment

from workers.distance.gaussians import Gaussians, gaussians_of, squared_distances
from workers.distance.otdd import LabelledSet, labelled_set, otdd
from workers.distance.settings import Covariance
from workers.distance.sinkhorn import Stopping, UnconvergedError, self_transport, transport

ot = pytest.importorskip("ot")

COVARIANCES: list[Covariance] = ["diagonal", "shrunk"]
EXACT = Stopping(tolerance=1e-7, max_iterations=20_000)


def points(n: int, dimensions: int = 3, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, dimensions, dtype=torch.float64, generator=generator)


def a_set(
    n: int, classes: int, seed: int, shift: float = 0.0, covariance: Covariance = "diagonal"
) -> LabelledSet:
    """Classes of different places and widths, each with some points."""
    labels = torch.arange(n) % classes
    widths = 0.5 + labels[:, None] / classes
    return labelled_set(points(n, seed=seed) * widths + labels[:, None] + shift, labels, covariance)


def moved(one: LabelledSet, by: torch.Tensor) -> LabelledSet:
    gaussians = Gaussians(one.gaussians.means + by, one.gaussians.spreads)
    return LabelledSet(one.features + by, one.classes, gaussians)


# ---------------------------------------------------------------------------- the label metric


def by_the_formula(
    m: NDArray[np.float64],
    s: NDArray[np.float64],
    m2: NDArray[np.float64],
    s2: NDArray[np.float64],
) -> float:
    root = sqrtm(s)
    bures = np.trace(s + s2 - 2 * np.real(sqrtm(root @ s2 @ root)))
    return float(((m - m2) ** 2).sum() + bures)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_w2_between_gaussians_is_the_closed_form(covariance: Covariance) -> None:
    x, y = points(40, seed=1) * torch.tensor([1.0, 2.0, 0.3]), torch.arange(40) % 4
    x2, y2 = points(30, seed=2) + 1, torch.arange(30) % 3
    ours, _ = gaussians_of(x, y, covariance)
    theirs, _ = gaussians_of(x2, y2, covariance)
    found = squared_distances(ours, theirs).numpy()
    assert found.shape == (4, 3)
    for i in range(4):
        for j in range(3):
            spreads = [
                torch.diag(g.spreads[k] ** 2).numpy() if g.is_diagonal else g.spreads[k].numpy()
                for g, k in ((ours, i), (theirs, j))
            ]
            means = ours.means[i].numpy(), theirs.means[j].numpy()
            expected = by_the_formula(means[0], spreads[0], means[1], spreads[1])
            assert found[i, j] == pytest.approx(expected, rel=1e-9)


def test_the_gaussians_are_those_of_the_classes() -> None:
    x, y = points(30), torch.arange(30) % 3 + 5  # labels need not begin at 0
    diagonal, places = gaussians_of(x, y, "diagonal")
    assert torch.equal(places, y - 5)
    for k in range(3):
        group = x[y == k + 5].numpy()
        np.testing.assert_allclose(diagonal.means[k], group.mean(0), rtol=1e-12)
        np.testing.assert_allclose(diagonal.spreads[k], group.std(0, ddof=1), rtol=1e-12)


def test_a_shrunk_covariance_is_regular_where_images_are_few() -> None:
    few = points(2, dimensions=6)
    shrunk, _ = gaussians_of(few, torch.zeros(2, dtype=torch.int64), "shrunk")
    assert float(torch.linalg.eigvalsh(shrunk.spreads[0]).min()) > 0


def test_a_class_of_one_image_has_no_gaussian() -> None:
    with pytest.raises(ValueError, match="1 image"):
        gaussians_of(points(3), torch.tensor([0, 0, 1]), "diagonal")


# ---------------------------------------------------------------------------- the solver


def test_the_value_is_the_primal_one() -> None:
    """The dual value that is reported is <C, P> + e KL(P | ab) of POT's own coupling."""
    cost = ot.dist(points(12), points(9, seed=1))
    for epsilon in (1.0, 3.0):
        found = transport(cost, epsilon, EXACT)
        a, b = torch.full((12,), 1 / 12).double(), torch.full((9,), 1 / 9).double()
        coupling = ot.sinkhorn(a, b, cost, epsilon, numItermax=20_000, stopThr=1e-8)
        kl = (coupling * (coupling / (a[:, None] * b)).log()).sum()
        assert found.value == pytest.approx(float((cost * coupling).sum() + epsilon * kl), abs=1e-6)


def test_a_self_problem_has_the_value_of_any_other_problem() -> None:
    x = points(25)
    cost = ot.dist(x, x.clone())
    for epsilon in (0.3, 1.0):
        quick = self_transport(cost, epsilon, EXACT)
        assert quick.value == pytest.approx(transport(cost, epsilon, EXACT).value, abs=1e-6)
        assert quick.iterations < 100


@pytest.mark.parametrize("solve", [transport, self_transport])
def test_a_solver_that_has_not_converged_is_an_error(solve) -> None:  # type: ignore[no-untyped-def]
    x = points(30)
    with pytest.raises(UnconvergedError, match=r"has not converged: .* after 1 iteration"):
        solve(ot.dist(x, x + 1), 0.01, Stopping(tolerance=1e-9, max_iterations=1))
    with pytest.raises(UnconvergedError, match="off by nan"):
        solve(torch.full((4, 4), math.nan).double(), 0.1, Stopping(max_iterations=5))


# ---------------------------------------------------------------------------- the distance


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_as_epsilon_goes_to_0_it_is_exact_transport_at_the_papers_cost(
    covariance: Covariance,
) -> None:
    """The exact problem: as many points on both sides, so the best coupling is an assignment."""
    ours, theirs = (a_set(24, 3, seed, seed, covariance) for seed in (1, 2))
    cost = np.empty((24, 24))
    for i in range(24):
        for j in range(24):
            w2 = squared_distances(ours.gaussians, theirs.gaussians)
            label = float(w2[ours.classes[i], theirs.classes[j]])
            difference = ours.features[i] - theirs.features[j]
            cost[i, j] = 0.5 * float(difference @ difference) + 0.5 * label
    by_assignment = cost[linear_sum_assignment(cost)].mean()
    uniform = np.full(24, 1 / 24)
    assert ot.emd2(uniform, uniform, cost) == pytest.approx(by_assignment)
    errors = [
        abs(otdd(ours, theirs, epsilon, Stopping(1e-4, 50_000)).value - by_assignment)
        for epsilon in (3, 0.5, 0.05)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.01 * by_assignment


@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize("classes", [1, 4])
def test_a_set_that_is_moved_is_at_the_square_of_how_far(
    covariance: Covariance, classes: int
) -> None:
    """A closed form at every epsilon: half a square for the points and half for their classes."""
    one = a_set(40, classes, 3, covariance=covariance)
    by = torch.tensor([0.4, -1.0, 0.7], dtype=torch.float64)
    for epsilon in (1.0, 5.0):
        found = otdd(one, moved(one, by), epsilon, EXACT).value
        assert found == pytest.approx(float(by @ by), rel=1e-6)


def test_between_two_gaussian_sets_it_is_w2_by_the_closed_form() -> None:
    """One class each: points and classes both cost half of W2^2 between the two Gaussians.

    On a line, where quantiles are samples that have no sampling error: W2^2 is
    (m - m')^2 + (s - s')^2.
    """
    normal = torch.distributions.Normal(0.0, 1.0)
    z = normal.icdf((torch.arange(400, dtype=torch.float64) + 0.5) / 400)[:, None]
    one_class = torch.zeros(400, dtype=torch.int64)
    ours = labelled_set(1.0 + 2.0 * z, one_class, "diagonal")
    theirs = labelled_set(-0.5 + 0.5 * z, one_class, "diagonal")
    expected = 1.5**2 + 1.5**2
    assert otdd(ours, theirs, 0.05, Stopping(1e-6, 100_000)).value == pytest.approx(expected, 0.01)


def test_to_itself_it_is_0_and_there_and_back_the_same() -> None:
    for covariance in COVARIANCES:
        ours, theirs = (a_set(n, 3, n, covariance=covariance) for n in (30, 24))
        assert otdd(ours, ours, 1.0, EXACT).value == pytest.approx(0, abs=1e-6)
        there, back = otdd(ours, theirs, 1.0, EXACT), otdd(theirs, ours, 1.0, EXACT)
        assert there.value == pytest.approx(back.value, abs=1e-6)
        assert there.value > 0.01


def test_the_labels_count() -> None:
    """The same points with the classes of another set are not the same set."""
    x, y = points(40), torch.arange(40) % 2
    ours = labelled_set(x + 5.0 * y[:, None], y, "diagonal")
    theirs = labelled_set(x + 5.0 * y[:, None], (torch.arange(40) // 2) % 2, "diagonal")
    assert otdd(ours, theirs, 1.0).value > 1


def test_its_parts_make_its_value_and_one_can_be_given() -> None:
    ours, theirs = a_set(30, 3, 1), a_set(24, 3, 2)
    whole = otdd(ours, theirs, 1.0)
    assert whole.value == whole.cross.value - 0.5 * (whole.ours.value + whole.theirs.value)
    parts = (whole.cross, whole.ours, whole.theirs)
    assert whole.iterations == sum(part.iterations for part in parts)
    assert whole.marginal_error == max(part.marginal_error for part in parts) <= 1e-6
    assert otdd(ours, theirs, 1.0, our_own=whole.ours) == whole


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), covariance=st.sampled_from(COVARIANCES))
def test_the_order_of_points_labels_and_dimensions_does_not_matter(
    seed: int, covariance: Covariance
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, y = points(18, seed=seed), torch.arange(18) % 3
    x2, y2 = points(12, seed=seed + 1) * 2, torch.arange(12) % 2
    before = otdd(labelled_set(x, y, covariance), labelled_set(x2, y2, covariance), 1.0, EXACT)
    order, order2 = (torch.randperm(n, generator=generator) for n in (18, 12))
    names = torch.randperm(3, generator=generator)
    axes = torch.randperm(3, generator=generator)
    ours = labelled_set(x[order][:, axes], names[y[order]], covariance)
    theirs = labelled_set(x2[order2][:, axes], y2[order2] + 7, covariance)
    assert otdd(ours, theirs, 1.0, EXACT).value == pytest.approx(before.value, abs=1e-6)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), scale=st.floats(0.1, 10))
def test_turning_does_not_matter_and_stretching_goes_by_the_square(seed: int, scale: float) -> None:
    """With whole covariances. Diagonal ones depend on the axes, as they are meant to."""
    turn, _ = torch.linalg.qr(points(3, seed=seed))
    x, y = points(18, seed=seed), torch.arange(18) % 3
    x2, y2 = points(12, seed=seed + 1) * 2, torch.arange(12) % 2
    before = otdd(labelled_set(x, y, "shrunk"), labelled_set(x2, y2, "shrunk"), 1.0, EXACT)
    after = otdd(
        labelled_set(scale * x @ turn, y, "shrunk"),
        labelled_set(scale * x2 @ turn, y2, "shrunk"),
        scale**2,
        EXACT,
    )
    assert after.value == pytest.approx(scale**2 * before.value, rel=1e-5, abs=1e-7 * scale**2)
