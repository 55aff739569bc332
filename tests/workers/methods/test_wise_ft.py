"""WiSE-FT and LP-FT: where on the line, and from where on."""

from __future__ import annotations

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from tests.workers.methods import RECIPE, ToyBench, ToyNet
from workers.methods.lp_ft import LPFT, LPFTConfig
from workers.methods.wise_ft import WiSEFT, WiSEFTConfig
from workers.models import State, state_of


def ends() -> tuple[State, State]:
    """The weights of two networks, with BatchNorm counters of their own."""
    modules = [ToyNet(seed) for seed in range(2)]
    for counter, module in zip((3, 50), modules, strict=True):
        module.norm.num_batches_tracked.fill_(counter)
    return state_of(modules[0]), state_of(modules[1])


def wise(start: nn.Module, states: tuple[State, State], alpha: float) -> State:
    bench = ToyBench(start, states=list(states))
    return state_of(WiSEFT(WiSEFTConfig(alpha=alpha)).build(bench))


@settings(deadline=None, max_examples=25)
@given(st.floats(0, 1))
def test_it_is_the_line_between_the_ends(alpha: float) -> None:
    before, after = ends()
    found = wise(ToyNet(), (before, after), alpha)
    for name, tensor in found.items():
        if tensor.is_floating_point():
            expected = (1 - alpha) * before[name] + alpha * after[name]
            torch.testing.assert_close(tensor, expected, rtol=1e-14, atol=1e-15)
    assert int(found["norm.num_batches_tracked"]) == 3  # kept, not averaged


@pytest.mark.parametrize("architecture", ["test_vit", "test_resnet"])
def test_its_ends_are_the_ends(architecture: str) -> None:
    torch.manual_seed(0)
    modules = [timm.create_model(architecture, num_classes=4) for _ in range(2)]
    states = (state_of(modules[0]), state_of(modules[1]))
    for alpha, expected in zip((0.0, 1.0), states, strict=True):
        found = wise(modules[0], states, alpha)
        for name, tensor in found.items():
            if tensor.is_floating_point():
                assert torch.equal(tensor, expected[name]), name
    middle = wise(modules[0], states, 0.25)
    for name, tensor in middle.items():
        if tensor.is_floating_point():
            line = 0.75 * states[0][name].double() + 0.25 * states[1][name].double()
            assert torch.equal(tensor, line.float()), name


def test_lp_ft_goes_on_from_its_parent_s_weights() -> None:
    _, after = ends()
    bench = ToyBench(ToyNet(), states=[after], recipe=RECIPE)
    start = LPFT(LPFTConfig()).start(bench)
    assert all(torch.equal(tensor, after[name]) for name, tensor in start.state_dict().items())
    trained = LPFT(LPFTConfig()).build(bench).state_dict()
    plain = ToyBench(ToyNet(1), recipe=RECIPE)
    plain.module.load_state_dict(after)
    expected = plain.module
    plain.train(expected, LPFT(LPFTConfig()))
    for name, tensor in trained.items():
        assert torch.equal(tensor, expected.state_dict()[name]), name
    assert not torch.equal(trained["stem.weight"], after["stem.weight"])  # all weights are trained
    assert all(torch.equal(tensor, bench.states[0][name]) for name, tensor in after.items())


def test_both_start_from_any_method() -> None:
    assert WiSEFT.starts_from(WiSEFTConfig()) == ("pretrained", "ft")
    assert WiSEFT.starts_from(WiSEFTConfig(start="lp-ft")) == ("pretrained", "lp-ft")
    assert LPFT.starts_from(LPFTConfig()) == ("lp",)
    assert LPFT.starts_from(LPFTConfig(start="my probe")) == ("my probe",)


def test_settings() -> None:
    assert WiSEFTConfig().alpha == 0.5
    for wrong in ({"alpha": -0.1}, {"alpha": 1.1}, {"start": ""}):
        with pytest.raises(ValidationError):
            WiSEFTConfig.model_validate(wrong)
