"""Visual prompting: a border added to the normalised image, and nothing else that learns."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from tests.workers.methods import (
    RECIPE,
    MemorySource,
    ToyBench,
    normalise64,
    plain_cross_entropy,
    toy,
    toy_with_batchnorm,
)
from workers.methods.visual_prompt import VisualPrompt, VisualPromptConfig
from workers.prompted import Prompted
from workers.train import Step

CONFIG = VisualPromptConfig(border=56, lr=3.0)
"""A quarter of 224: one pixel of the toy images' four."""
INSIDE = (slice(None), slice(1, 3), slice(1, 3))


class Identity(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 111), st.integers(2, 40), st.integers(2, 40))
def test_it_is_added_on_the_border_and_nowhere_else(border: int, height: int, width: int) -> None:
    module = Prompted(Identity(), (2, height, width), border / 224)
    torch.manual_seed(0)
    with torch.no_grad():
        module.prompt.copy_(torch.rand_like(module.prompt) + 1)
        images = torch.randn(3, 2, height, width)
        change = module(images) - images
    rows, columns = (max(1, round(border / 224 * side)) for side in (height, width))
    for y in range(height):
        for x in range(width):
            on_border = min(y, height - 1 - y) < rows or min(x, width - 1 - x) < columns
            expected = module.prompt[:, y, x].detach() if on_border else torch.zeros(2)
            found = change[:, :, y, x]
            torch.testing.assert_close(found, expected.expand_as(found), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("side", "width"), [(224, 30), (32, 4), (384, 51), (64, 9), (4, 1)])
def test_the_width_follows_the_image_s_side(side: int, width: int) -> None:
    """30 px at 224 px, in proportion: 4.29 is 4, 51.43 is 51, 8.57 is 9; at least a pixel."""
    bench = ToyBench(toy(), input_size=(3, side, side))
    module = VisualPrompt(VisualPromptConfig()).assemble(Identity(), bench)
    assert int(module.mask[0, side // 2].sum()) == min(2 * width, side)
    assert int((1 - module.mask).sum()) == max(0, side - 2 * width) ** 2


def test_it_starts_as_standard_normal_noise_of_the_cell_s_own_seed() -> None:
    bench = ToyBench(toy(), input_size=(3, 100, 100))
    first, second = (VisualPrompt(CONFIG).start(bench) for _ in range(2))
    assert torch.equal(first.prompt, second.prompt)
    assert float(first.prompt.mean().detach()) == pytest.approx(0, abs=0.02)  # 3.5 sigma
    assert float(first.prompt.std().detach()) == pytest.approx(1, abs=0.02)
    bench.seed = lambda purpose: 77  # type: ignore[method-assign]
    assert not torch.equal(VisualPrompt(CONFIG).start(bench).prompt, first.prompt)


def test_only_the_prompt_is_trained_at_its_own_rate() -> None:
    """Against gradient descent on the border alone, written out."""
    start = toy_with_batchnorm()
    recipe = RECIPE.model_copy(update={"momentum": 0.0, "schedule": "constant", "layer_decay": 0.5})
    bench = ToyBench(start, recipe=recipe)
    seen: list[torch.Tensor] = []

    class Watched(VisualPrompt):
        def loss(self, step: Step) -> torch.Tensor:
            seen.append(step.indices)
            return super().loss(step)

    method = Watched(CONFIG)
    before = VisualPrompt(CONFIG).start(bench).prompt.detach().double()
    trained = method.build(bench)
    assert isinstance(trained, Prompted)
    assert [record.lr for record in bench.history] == [3.0, 3.0]
    assert len(seen) == 6

    prompt, source = before.clone(), MemorySource()
    border = torch.ones(3, 4, 4).double()
    border[INSIDE] = 0
    for places in seen:
        prompt.requires_grad_()
        images = normalise64(source.pixels[places]) + border * prompt
        loss = plain_cross_entropy(start, images, source.labels[places])
        (gradient,) = torch.autograd.grad(loss, prompt)
        prompt = (prompt - 3.0 * gradient).detach()
    torch.testing.assert_close(trained.prompt.detach().double(), prompt, rtol=1e-4, atol=1e-5)
    assert torch.equal(trained.prompt[INSIDE].double(), before[INSIDE])
    assert float((prompt - before).abs().max()) > 0.1
    for name, tensor in trained.model.state_dict().items():
        assert torch.equal(tensor, start.state_dict()[name]), name  # BatchNorm included


def test_the_checkpoint_is_taken_up_again() -> None:
    bench = ToyBench(toy(), recipe=RECIPE)
    method = VisualPrompt(CONFIG)
    trained = method.build(bench)
    again = method.assemble(copy.deepcopy(bench.module), bench)
    again.load_state_dict(trained.state_dict())
    images = normalise64(bench.source.pixels)
    with torch.no_grad():
        assert torch.equal(again(images), trained.eval()(images))


def test_settings() -> None:
    assert VisualPromptConfig().model_dump() == {"border": 30, "lr": 40.0}
    assert not VisualPrompt.keeps_architecture
    for wrong in ({"border": 0}, {"border": 112}, {"lr": 0}):
        with pytest.raises(ValidationError):
            VisualPromptConfig.model_validate(wrong)
