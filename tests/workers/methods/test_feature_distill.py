"""Feature distillation: loss, gradient and update against the formula in plain PyTorch."""

from __future__ import annotations

import copy

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from tests.workers.methods import (
    CLASSES,
    COLUMNS,
    CPU,
    RECIPE,
    TARGETS,
    MemorySource,
    PlainSGD,
    ToyBench,
    ToyNet,
    normalise64,
    plain_cross_entropy,
)
from workers.methods.feature_distill import FeatureDistill, FeatureDistillConfig
from workers.scoring import Scorer
from workers.train import Step

STRENGTH = 0.7
CLOSE = {"rtol": 1e-5, "atol": 1e-7}  # the features that are kept are float32


def features(module: ToyNet, images: torch.Tensor) -> torch.Tensor:
    return module.norm(module.stem(images)).tanh().flatten(1)


def plain_loss(
    module: ToyNet, start: ToyNet, images: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """Cross-entropy + strength * sum over images and features of (phi - phi0)^2 / (B D)."""
    with torch.no_grad():
        before = features(start, images)
    change = features(module, images) - before
    return plain_cross_entropy(module, images, labels) + STRENGTH * (change**2).sum() / (
        change.numel()
    )


def prepared(module: nn.Module, start: nn.Module, source: MemorySource) -> FeatureDistill:
    method = FeatureDistill(FeatureDistillConfig(strength=STRENGTH))
    method.prepare(module, ToyBench(start, source))
    return method


def step_of(module: nn.Module, source: MemorySource, places: torch.Tensor) -> Step:
    images, labels = normalise64(source.pixels[places]), source.labels[places]
    logits = module(images)[:, COLUMNS]
    return Step(module, images, labels, places, logits, Scorer(CLASSES, CPU))


def test_loss_and_gradient() -> None:
    start, module, source = ToyNet(0), ToyNet(1), MemorySource()
    places = torch.tensor([4, 17, 0, 9, 20])
    images, labels = normalise64(source.pixels[places]), source.labels[places]
    found = prepared(module, start, source).loss(step_of(module, source, places))
    expected = plain_loss(module, start, images, labels)
    torch.testing.assert_close(found, expected, **CLOSE)
    entropy = float(plain_cross_entropy(module, images, labels).detach())
    assert float(found.detach()) > 1.02 * entropy  # the second term is there

    # d loss / d phi = (p - 1[y])_masked W / B + 2 strength (phi - phi0) / (B D)
    phi = features(module, images)
    weight = module.head.weight.detach()[COLUMNS]
    p = module(images)[:, COLUMNS].softmax(dim=1).detach()
    one_hot = torch.zeros_like(p)
    one_hot[torch.arange(5), torch.tensor(TARGETS)[labels]] = 1
    change = (phi - features(start, images)).detach()
    in_phi = (p - one_hot) @ weight / 5 + 2 * STRENGTH * change / change.numel()
    backbone = [*module.stem.parameters(), *module.norm.parameters()]
    by_formula = torch.autograd.grad(phi, backbone, in_phi)
    for gradient, formula in zip(torch.autograd.grad(found, backbone), by_formula, strict=True):
        torch.testing.assert_close(gradient, formula, **CLOSE)


def test_weights_after_several_steps() -> None:
    """As the training loop does it, with BatchNorm in training mode."""
    start, source = ToyNet(), MemorySource()
    seen: list[torch.Tensor] = []

    class Watched(FeatureDistill):
        def loss(self, step: Step) -> torch.Tensor:
            seen.append(step.indices)
            return super().loss(step)

    bench = ToyBench(start, source)
    trained = Watched(FeatureDistillConfig(strength=STRENGTH)).build(bench)
    plain = copy.deepcopy(start).train()
    reference = PlainSGD(plain, RECIPE.momentum)
    for number, places in enumerate(seen):
        images, labels = normalise64(source.pixels[places]), source.labels[places]
        with torch.no_grad():
            before = features(start, images)
        phi = features(plain, images)
        log_p = plain.head(phi)[:, COLUMNS].log_softmax(dim=1)
        entropy = -log_p[torch.arange(len(places)), torch.tensor(TARGETS)[labels]].mean()
        loss = entropy + STRENGTH * ((phi - before) ** 2).mean()
        reference.step(loss, RECIPE.lr * RECIPE.lr_factor(number, 6))
    for name, tensor in trained.state_dict().items():
        torch.testing.assert_close(tensor, plain.state_dict()[name], rtol=1e-4, atol=1e-6)
    assert not torch.allclose(trained.stem.weight, start.stem.weight, atol=1e-3)


def test_at_the_start_it_is_the_cross_entropy_alone() -> None:
    start, source = ToyNet(), MemorySource()
    module, places = copy.deepcopy(start), torch.arange(8)
    found = prepared(module, start, source).loss(step_of(module, source, places))
    images, labels = normalise64(source.pixels[:8]), source.labels[:8]
    torch.testing.assert_close(found, plain_cross_entropy(module, images, labels), **CLOSE)


def test_nothing_is_left_behind_in_the_model() -> None:
    module = FeatureDistill(FeatureDistillConfig()).build(ToyBench(ToyNet()))
    assert not any(part._forward_pre_hooks for part in module.modules())


def test_settings() -> None:
    assert FeatureDistillConfig().strength == 1.0
    with pytest.raises(ValidationError):
        FeatureDistillConfig(strength=-1)
    module = ToyNet()
    assert FeatureDistill.unfit(FeatureDistillConfig(), module) == ""
    module.head = nn.Identity()  # type: ignore[assignment]
    assert "no linear classifier" in FeatureDistill.unfit(FeatureDistillConfig(), module)
