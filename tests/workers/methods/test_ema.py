"""EMA: the recursion by hand, over the weights that training went through."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from tests.workers.methods import RECIPE, MemorySource, ToyBench, toy_with_batchnorm
from workers.methods.ema import EMA, EMAConfig
from workers.methods.ft import FineTune
from workers.models import State, state_of
from workers.recipe import Recipe

DECAY = 0.7


class Watched(EMA):
    """EMA that remembers the weights after each step."""

    def __init__(self, decay: float) -> None:
        super().__init__(EMAConfig(decay=decay))
        self.way: list[State] = []

    def after_step(self, module: nn.Module) -> None:
        super().after_step(module)
        self.way.append(state_of(module))


def test_the_result_is_the_recursion_over_the_way_of_training() -> None:
    bench = ToyBench(toy_with_batchnorm(), MemorySource())
    method = Watched(DECAY)
    found = state_of(method.build(bench))
    assert len(method.way) == 6
    expected = state_of(bench.module)
    for state in method.way:
        for name, tensor in state.items():
            if tensor.is_floating_point():
                expected[name] = DECAY * expected[name] + (1 - DECAY) * tensor
            else:
                expected[name] = tensor
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-10, atol=1e-12)
    assert int(found["1.num_batches_tracked"]) == 6  # copied
    for name in ("0.weight", "1.weight", "1.running_mean", "1.running_var"):
        last, first = method.way[-1][name], bench.module.state_dict()[name]
        assert not torch.allclose(found[name], last, rtol=0, atol=1e-3), name
        assert not torch.allclose(found[name], first, rtol=0, atol=1e-3), name


def test_the_way_of_training_is_that_of_fine_tuning() -> None:
    """Averaging looks on: with a decay of 0 the result is fine-tuning's."""
    start = toy_with_batchnorm()
    module = EMA(EMAConfig(decay=0.0)).build(ToyBench(start))
    plain = FineTune(FineTune.Config()).build(ToyBench(start))
    for name, tensor in module.state_dict().items():
        torch.testing.assert_close(tensor, plain.state_dict()[name], rtol=0, atol=1e-15)
    assert not module.training


def test_it_cannot_stop_early() -> None:
    assert EMA.unsuited(EMAConfig(), RECIPE) == ""
    recipe = Recipe(holdout=0.2, patience=3)
    assert "early stopping" in EMA.unsuited(EMAConfig(), recipe)


def test_settings() -> None:
    assert EMAConfig().decay == 0.999
    for wrong in (-0.1, 1.0):
        with pytest.raises(ValidationError):
            EMAConfig(decay=wrong)
