"""Averaging weights: what is averaged, what is kept, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from pydantic import ValidationError
from torch import nn

from tests.workers.methods import (
    MemorySource,
    ToyBench,
    normalise64,
    toy,
    toy_with_batchnorm,
)
from workers.averaging import average
from workers.methods.soup import Soup, SoupConfig
from workers.models import State, state_of

ARCHITECTURES = ["test_vit", "test_resnet"]


def fresh(architecture: str, seed: int, **arguments: Any) -> nn.Module:
    """A model with random weights, and BatchNorm statistics and counters of its own."""
    torch.manual_seed(seed)
    module: nn.Module = timm.create_model(architecture, num_classes=7, **arguments)
    for buffer_name, buffer in module.named_buffers():
        if buffer_name.endswith("num_batches_tracked"):
            buffer.fill_(10 + seed)
        else:
            buffer.uniform_(0.1, 2.0)
    return module


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_floats_are_averaged_and_counters_kept(architecture: str) -> None:
    states = [state_of(fresh(architecture, seed)) for seed in range(3)]
    found = average(states)
    assert list(found) == list(states[0])
    integers = 0
    for name, tensor in found.items():
        assert tensor.dtype == states[0][name].dtype
        if tensor.is_floating_point():
            expected = sum(state[name].numpy().astype("float64") for state in states) / 3
            torch.testing.assert_close(tensor, torch.from_numpy(expected).float(), rtol=0, atol=0)
        else:
            integers += 1
            assert int(tensor) == 10  # the first member's
    assert (integers > 0) == (architecture == "test_resnet")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_mean_of_a_model_with_itself_is_that_model(architecture: str) -> None:
    state = state_of(fresh(architecture, 1))
    found = average([state, state, state])
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_members_with_other_entries_are_refused(architecture: str) -> None:
    state = state_of(fresh(architecture, 0))
    name = next(iter(state))
    short = {key: tensor for key, tensor in state.items() if key != name}
    renamed = {**short, "other": state[name]}
    for other in (short, renamed):
        for members in ([state, other], [other, state]):
            with pytest.raises(ValueError, match="different architectures"):
                average(members)


def test_members_of_another_architecture_or_shape_are_refused() -> None:
    vit, resnet = (state_of(fresh(name, 0)) for name in ARCHITECTURES)
    with pytest.raises(ValueError, match="different architectures"):
        average([vit, resnet])
    wider = state_of(timm.create_model("test_vit", num_classes=8))
    with pytest.raises((ValueError, RuntimeError)):
        average([vit, wider])


def test_half_precision_is_not_summed_in_half_precision() -> None:
    big = {"w": torch.full((2,), 60000.0, dtype=torch.float16)}
    assert average([big, big, big])["w"].tolist() == [60000.0, 60000.0]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_soup_is_the_model_with_its_parents_mean(architecture: str) -> None:
    base = fresh(architecture, 0)
    states: list[State] = [state_of(fresh(architecture, seed)) for seed in (0, 1)]
    soup = Soup(SoupConfig(members=("pretrained", "ft")))
    module = soup.build(ToyBench(base, states=states))
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            expected = (states[0][name].double() + states[1][name].double()) / 2
            torch.testing.assert_close(tensor.double(), expected, rtol=1e-6, atol=1e-8)
    assert not module.training


def test_a_linear_model_s_soup_predicts_the_mean() -> None:
    """Of linear models, the mean's logits are the mean of the logits."""
    torch.manual_seed(0)
    members = [nn.Linear(4, 3).double() for _ in range(4)]
    soup = Soup(SoupConfig())
    module = soup.build(ToyBench(members[0], states=[state_of(m) for m in members]))
    x = torch.randn(5, 4, dtype=torch.float64)
    expected = torch.stack([m(x) for m in members]).mean(dim=0)
    torch.testing.assert_close(module(x), expected, rtol=1e-12, atol=1e-12)


def test_building_a_soup_changes_no_member() -> None:
    states = [state_of(toy(seed)) for seed in range(2)]
    copies = [{name: tensor.clone() for name, tensor in state.items()} for state in states]
    Soup(SoupConfig(members=("ft", "lwf"))).build(ToyBench(toy(), states=states))
    for state, copy in zip(states, copies, strict=True):
        assert all(torch.equal(state[name], copy[name]) for name in state)


def test_members() -> None:
    assert Soup.starts_from(SoupConfig()) == ("pretrained", "ft", "ewc", "lwf")
    assert Soup.starts_from(SoupConfig(members=("ft", "l2sp"))) == ("ft", "l2sp")
    with pytest.raises(ValidationError, match="at least two"):
        SoupConfig(members=("ft",))
    with pytest.raises(ValidationError, match="members repeat: ft"):
        SoupConfig(members=("ft", "lwf", "ft"))


# ---------------------------------------------------------------------------- weights


def test_members_count_by_their_weights() -> None:
    states = [state_of(toy(seed)) for seed in range(3)]
    soup = Soup(SoupConfig(members=("pretrained", "ft", "lwf"), weights=(1.0, 2.0, 5.0)))
    found = soup.build(ToyBench(toy(), states=states)).state_dict()
    for name, tensor in found.items():
        expected = (states[0][name] + 2 * states[1][name] + 5 * states[2][name]) / 8
        torch.testing.assert_close(tensor, expected, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("weights", [(1.0,), (1.0, 2.0, 3.0), (1.0, 0.0), (1.0, -1.0)])
def test_weights_that_do_not_fit_are_refused(weights: tuple[float, ...]) -> None:
    with pytest.raises(ValidationError):
        SoupConfig(members=("ft", "lwf"), weights=weights)


# ---------------------------------------------------------------------------- recalibration


def statistics(images: torch.Tensor, conv: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and unbiased variance of each channel of what BatchNorm gets from one batch."""
    values = conv(images).detach().transpose(0, 1).flatten(1)  # [C, B * H * W]
    mean = values.sum(dim=1) / values.shape[1]
    variance = ((values - mean[:, None]) ** 2).sum(dim=1) / (values.shape[1] - 1)
    return mean, variance


@pytest.mark.parametrize(("n", "sizes"), [(40, [40]), (300, [256, 44])])
def test_recalibrated_statistics_are_those_of_the_downstream_images(
    n: int, sizes: list[int]
) -> None:
    """Of several batches the mean over batches counts, as torch's cumulative average has it."""
    modules = [toy_with_batchnorm(seed) for seed in range(2)]
    source = MemorySource(n=n)
    bench = ToyBench(modules[0], source, states=[state_of(module) for module in modules])
    members = ("pretrained", "ft")
    plain = Soup(SoupConfig(members=members)).build(bench)
    found = Soup(SoupConfig(members=members, recalibrate=True)).build(bench)
    assert [len(part) for part in source.asked] == sizes

    parts = normalise64(source.pixels).split(256)
    each = [statistics(part, plain[0]) for part in parts]
    for name, number in (("running_mean", 0), ("running_var", 1)):
        expected = sum(one[number] for one in each) / len(each)
        torch.testing.assert_close(getattr(found[1], name), expected, rtol=1e-10, atol=1e-12)
        assert not torch.allclose(getattr(plain[1], name), expected, rtol=0.01)
    assert int(found[1].num_batches_tracked) == len(sizes)
    assert found[1].momentum == plain[1].momentum
    assert not any(part.training for part in found.modules())
    for (name, tensor), other in zip(found.named_parameters(), plain.parameters(), strict=True):
        assert torch.equal(tensor, other), name


def test_recalibration_is_repeatable_with_dropout() -> None:
    module = nn.Sequential(nn.Dropout(0.5), toy_with_batchnorm())
    states = [state_of(module)] * 2
    soup = Soup(SoupConfig(members=("pretrained", "ft"), recalibrate=True))
    first = state_of(soup.build(ToyBench(module, states=states)))
    torch.rand(5)
    second = state_of(soup.build(ToyBench(module, states=states)))
    assert all(torch.equal(second[name], tensor) for name, tensor in first.items())
