"""Greedy soup: the paper's recipe 1 in a few lines of numpy, on members of known worth."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from tests.workers.methods import COLUMNS, TARGETS, MemorySource, ToyBench, normalise64
from workers.holdout import PartOf
from workers.methods.greedy_soup import GreedySoup
from workers.methods.soup import Members
from workers.models import State, state_of
from workers.recipe import Recipe

Array = npt.NDArray[np.float64]
SOURCE = MemorySource(n=60)
HELD_OUT = torch.arange(1, 60, 2)


def linear(weight: Array) -> nn.Module:
    module = nn.Sequential(nn.Flatten(), nn.Linear(48, 6, bias=False)).double()
    with torch.no_grad():
        module[1].weight.copy_(torch.from_numpy(weight))
    return module.eval()


def member(seed: int, skill: float) -> Array:
    """A linear classifier: some of the least-squares solution of all images, and noise."""
    rng = np.random.default_rng(seed)
    x = normalise64(SOURCE.pixels).flatten(1).numpy()
    wanted = np.zeros((60, 6))
    wanted[np.arange(60), [COLUMNS[TARGETS[k]] for k in SOURCE.labels.tolist()]] = 1
    solution = np.linalg.lstsq(x, wanted, rcond=None)[0].T
    weight: Array = skill * solution + 0.25 * rng.standard_normal((6, 48))
    return weight


def n_right(weight: Array) -> int:
    """Of the held-out images, under the class mask."""
    x = normalise64(SOURCE.pixels[HELD_OUT]).flatten(1).numpy()
    said = (x @ weight.T)[:, COLUMNS].argmax(axis=1)
    right = [TARGETS[k] for k in SOURCE.labels[HELD_OUT].tolist()]
    return int((said == right).sum())


def by_recipe_1(weights: list[Array]) -> list[int]:
    """Which members are in the soup, as the paper has it, and only what strictly helps joins."""
    ranked = sorted(range(len(weights)), key=lambda k: (-n_right(weights[k]), k))
    chosen: list[int] = []
    best = -1
    for k in ranked:
        found = n_right(np.mean([weights[j] for j in [*chosen, k]], axis=0))
        if found > best:
            chosen, best = [*chosen, k], found
    return chosen


def greedy(weights: list[Array]) -> State:
    modules = [linear(weight) for weight in weights]
    bench = ToyBench(
        linear(np.zeros((6, 48))),
        SOURCE,
        states=[state_of(module) for module in modules],
        held_out=PartOf(SOURCE, HELD_OUT),
    )
    names = tuple(f"m{k}" for k in range(len(weights)))
    return state_of(GreedySoup(Members(members=names)).build(bench))


def assert_is_mean(found: State, weights: list[Array]) -> None:
    expected = torch.from_numpy(np.mean(weights, axis=0))
    torch.testing.assert_close(found["1.weight"], expected, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("seed", range(12))
def test_it_is_recipe_1(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = [member(100 * seed + k, skill) for k, skill in enumerate(rng.uniform(0.1, 0.8, 5))]
    assert_is_mean(greedy(weights), [weights[k] for k in by_recipe_1(weights)])


def test_the_twelve_cases_are_of_several_kinds() -> None:
    """So that the test above is no test of one answer."""
    sizes = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        weights = [member(100 * seed + k, s) for k, s in enumerate(rng.uniform(0.1, 0.8, 5))]
        sizes.append(len(by_recipe_1(weights)))
    assert len(set(sizes)) >= 3


def test_what_hurts_is_left_out() -> None:
    good, other = member(1, 0.6), member(2, 0.6)
    harmful = -4 * member(3, 0.8)
    assert n_right(harmful) < n_right(good)
    for order in itertools.permutations([good, other, harmful]):
        weights = list(order)
        chosen = [weights[k] for k in by_recipe_1(weights)]
        assert not any(one is harmful for one in chosen)
        assert_is_mean(greedy(weights), chosen)


def test_ties_do_not_join() -> None:
    """Twice as large weights say the same: the mean of both is as good, not better."""
    first = member(1, 0.6)
    assert_is_mean(greedy([first, 2 * first]), [first])
    assert_is_mean(greedy([2 * first, first]), [2 * first])


def test_the_best_member_alone_is_kept_if_nothing_helps() -> None:
    best, worse = member(1, 0.8), -member(1, 0.8) * 0.5
    assert_is_mean(greedy([worse, best]), [best])


def test_it_needs_a_holdout() -> None:
    assert "holdout" in GreedySoup.unsuited(Members(), Recipe())
    assert GreedySoup.unsuited(Members(), Recipe(holdout=0.1)) == ""
