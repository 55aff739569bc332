"""Averages of weights against plain float64 sums, and what an average may not depend on."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.workers.methods import ToyNet
from workers.averaging import average
from workers.models import State, pack_state, state_of, unpack_state

COUNTER = "norm.num_batches_tracked"


def member(seed: int) -> State:
    module = ToyNet(seed)
    module.norm.num_batches_tracked.fill_(10 + seed)
    return state_of(module)


def assert_close(found: State, expected: State) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, expected[name], rtol=1e-14, atol=1e-15)


weights_of = st.lists(st.floats(0.01, 100), min_size=1, max_size=5)


@settings(deadline=None, max_examples=30)
@given(weights_of, st.randoms(use_true_random=False))
def test_the_weighted_mean_of_each_entry_in_any_order(weights: list[float], random: object) -> None:
    members = [member(seed) for seed in range(len(weights))]
    expected = {
        name: sum(w * state[name] for w, state in zip(weights, members, strict=True)) / sum(weights)
        for name in members[0]
    }
    pairs = list(zip(members, weights, strict=True))
    random.shuffle(pairs)
    assert_close(average([state for state, _ in pairs], [w for _, w in pairs]), expected)
    assert int(average(members, weights)[COUNTER]) == 10  # the first member's, not a mean


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 5), st.floats(0.01, 100))
def test_equal_weights_are_the_mean_whatever_their_sum(n: int, weight: float) -> None:
    members = [member(seed) for seed in range(n)]
    uniform = average(members)
    assert_close(average(members, [weight] * n), uniform)
    mean = {k: torch.stack([m[k].double() for m in members]).mean(0) for k in members[0]}
    assert_close(uniform, mean)


def test_weights_are_not_rounded_to_single_precision() -> None:
    """In float32, 0.1 is off by 1.5e-9."""
    states = [{"w": torch.zeros(1).double()}, {"w": torch.ones(1).double()}]
    assert average(states, (0.9, 0.1))["w"].item() == pytest.approx(0.1, rel=1e-15)


class Tied(nn.Module):
    """A network whose two layers have one weight."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight


def test_tied_weights_stay_tied() -> None:
    modules = [Tied(seed) for seed in range(2)]
    states = [unpack_state(pack_state(state_of(module))) for module in modules]  # as from a store
    merged = Tied(2)
    merged.load_state_dict(average(states))
    assert merged.first.weight is merged.second.weight
    expected = (modules[0].first.weight.double() + modules[1].first.weight.double()) / 2
    torch.testing.assert_close(merged.second.weight.double(), expected, rtol=1e-7, atol=1e-9)
    assert not torch.equal(merged.first.bias, merged.second.bias)
