"""L2-SP and EWC: loss, gradient and update against their formulas in plain PyTorch."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from tests.workers.methods import (
    MemorySource,
    PlainSGD,
    ToyBench,
    normalise64,
    plain_cross_entropy,
    step_of,
    toy,
    toy_with_batchnorm,
)
from workers.methods import ewc as ewc_module
from workers.methods.ewc import EWC, EWCConfig, squared_score
from workers.methods.ft import FineTune
from workers.methods.l2sp import L2SP, L2SPConfig

LR, MOMENTUM = 0.05, 0.9
EXACT = {"rtol": 1e-10, "atol": 1e-12}


def parameters(module: nn.Module) -> list[torch.Tensor]:
    return list(module.parameters())


def moved(module: nn.Module, seed: int = 3) -> nn.Module:
    """The module with every weight moved a little, as training would have done."""
    torch.manual_seed(seed)
    other = copy.deepcopy(module)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return other


def gradients(loss: torch.Tensor, module: nn.Module) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, list(module.parameters())))


def assert_all_close(found: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    for f, e in zip(found, expected, strict=True):
        torch.testing.assert_close(f, e, **EXACT)


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    source = MemorySource()
    return normalise64(source.pixels[:8]), source.labels[:8]


def plain_score_squares(
    module: nn.Module, images: torch.Tensor, drawn: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Sum over images of the squared gradient of log p(drawn | image), one image at a time."""
    names = [name for name, _ in module.named_parameters()]
    parameters = list(module.parameters())
    total = {name: torch.zeros_like(p) for name, p in module.named_parameters()}
    for image, label in zip(images, drawn.tolist(), strict=True):
        log_p = module(image[None]).log_softmax(dim=1)[0, label]
        for name, gradient in zip(names, torch.autograd.grad(log_p, parameters), strict=True):
            total[name] += gradient**2
    return total


class Draws:
    """Remembers what labels torch.multinomial drew, and from which probabilities."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.probabilities: list[torch.Tensor] = []
        self.labels: list[torch.Tensor] = []
        self._real = torch.multinomial
        monkeypatch.setattr(torch, "multinomial", self._draw)

    def _draw(self, probabilities: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        drawn = self._real(probabilities, *args, **kwargs)
        self.probabilities.append(probabilities)
        self.labels.append(drawn[:, 0])
        return drawn


def give_labels(monkeypatch: pytest.MonkeyPatch, labels: torch.Tensor) -> None:
    """Let these labels be drawn."""
    monkeypatch.setattr(torch, "multinomial", lambda *_, **__: labels[:, None])


# ---------------------------------------------------------------------------- ft and l2sp


def test_ft_minimises_the_masked_cross_entropy(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    module = toy()
    method = FineTune(FineTune.Config())
    method.prepare(module, ToyBench(module))
    found, expected = method.loss(step_of(module, *batch)), plain_cross_entropy(module, *batch)
    torch.testing.assert_close(found, expected, **EXACT)
    assert_all_close(gradients(found, module), gradients(expected, module))


@pytest.mark.parametrize("strength", [0.0, 0.7, 1.0])
def test_l2sp_adds_the_squared_distance_from_the_start(
    batch: tuple[torch.Tensor, torch.Tensor], strength: float
) -> None:
    start = toy()
    method = L2SP(L2SPConfig(strength=strength))
    module = copy.deepcopy(start)
    method.prepare(module, ToyBench(start))
    torch.testing.assert_close(
        method.loss(step_of(module, *batch)), plain_cross_entropy(start, *batch), **EXACT
    )

    module.load_state_dict(moved(start).state_dict())
    distance = sum(
        float(((a - b) ** 2).sum().detach())
        for a, b in zip(module.parameters(), start.parameters(), strict=True)
    )
    assert distance > 1
    found, entropy = method.loss(step_of(module, *batch)), plain_cross_entropy(module, *batch)
    assert float(found.detach()) == pytest.approx(
        float(entropy.detach()) + strength * distance, rel=1e-10
    )
    expected = [  # d/d theta of lambda (theta - theta0)^2 is 2 lambda (theta - theta0)
        g + 2 * strength * (a.detach() - b.detach())
        for g, a, b in zip(
            gradients(entropy, module), module.parameters(), start.parameters(), strict=True
        )
    ]
    assert_all_close(gradients(found, module), expected)


def test_l2sp_weights_after_several_steps(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    start, strength = toy(), 0.7
    module, plain = copy.deepcopy(start), copy.deepcopy(start)
    method = L2SP(L2SPConfig(strength=strength))
    method.prepare(module, ToyBench(start))
    optimizer = torch.optim.SGD(module.parameters(), lr=LR, momentum=MOMENTUM)
    reference = PlainSGD(plain, MOMENTUM)
    for _ in range(6):
        optimizer.zero_grad()
        method.loss(step_of(module, *batch)).backward()
        optimizer.step()
        penalty = sum(
            ((a - b.detach()) ** 2).sum()
            for a, b in zip(plain.parameters(), start.parameters(), strict=True)
        )
        reference.step(plain_cross_entropy(plain, *batch) + strength * penalty, LR)
    assert_all_close(parameters(module), parameters(plain))
    assert not torch.allclose(plain[1].weight, start[1].weight, atol=0.01)


def test_l2sp_leaves_what_is_not_trained_alone(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    start = toy()
    start[1].requires_grad_(False)
    method = L2SP(L2SPConfig())
    module = copy.deepcopy(start)
    method.prepare(module, ToyBench(start))
    assert set(method.anchor) == {"3.weight", "3.bias"}


# ---------------------------------------------------------------------------- ewc


@pytest.mark.parametrize("make", [toy, toy_with_batchnorm])
def test_squared_score_is_the_sum_of_squared_gradients_of_single_images(
    make: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = make().eval()
    images = normalise64(MemorySource().pixels)
    before = copy.deepcopy(module.state_dict())
    draws = Draws(monkeypatch)
    found = squared_score(module, images, torch.Generator().manual_seed(1))
    (probabilities,), (drawn,) = draws.probabilities, draws.labels
    with torch.no_grad():
        torch.testing.assert_close(probabilities, module(images).softmax(dim=1), **EXACT)
    assert len(set(drawn.tolist())) > 2  # drawn, not the arg-max or the data set's labels
    expected = plain_score_squares(module, images, drawn)
    assert found.keys() == expected.keys()
    for name, square in expected.items():
        torch.testing.assert_close(found[name], square, **EXACT)
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name]), name  # BatchNorm has seen nothing
    assert all(p.grad is None for p in module.parameters())


def test_squared_score_does_not_mix_images_in_batchnorm(monkeypatch: pytest.MonkeyPatch) -> None:
    module, images = toy_with_batchnorm(), normalise64(MemorySource().pixels)
    single = []
    drawn = torch.arange(len(images)) % 6
    give_labels(monkeypatch, drawn)
    whole = squared_score(module, images, torch.Generator())
    for i in range(len(images)):
        give_labels(monkeypatch, drawn[i : i + 1])
        single.append(squared_score(module, images[i : i + 1], torch.Generator()))
    for name, square in whole.items():
        torch.testing.assert_close(square, sum(part[name] for part in single), **EXACT)


def linear_softmax() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 6)).double().eval()


def test_fisher_of_a_linear_softmax_for_given_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    module, images = linear_softmax(), normalise64(MemorySource().pixels)
    drawn = torch.arange(len(images)) % 6
    give_labels(monkeypatch, drawn)
    found = squared_score(module, images, torch.Generator())
    # d log p_y / d W_kj = (1[y = k] - p_k) x_j, and the same without x_j for the bias
    x = images.flatten(1)
    p = module(images).softmax(dim=1).detach()
    one_hot = torch.zeros_like(p)
    one_hot[torch.arange(len(p)), drawn] = 1
    factor = (one_hot - p) ** 2
    torch.testing.assert_close(found["1.weight"], factor.T @ x**2, **EXACT)
    torch.testing.assert_close(found["1.bias"], factor.sum(dim=0), **EXACT)


def test_fisher_of_a_linear_softmax_in_expectation() -> None:
    """Over y drawn from p, E (1[y = k] - p_k)^2 = p_k (1 - p_k)."""
    module, n = linear_softmax(), 20_000
    image = normalise64(MemorySource().pixels[:1])
    images = image.expand(n, -1, -1, -1)
    found = squared_score(module, images, torch.Generator().manual_seed(0))
    p = module(image).softmax(dim=1)[0].detach()
    expected = p * (1 - p)
    torch.testing.assert_close(found["1.bias"] / n, expected, rtol=0, atol=0.006)  # > 3 sigma
    torch.testing.assert_close(
        found["1.weight"] / n, expected[:, None] * image.flatten() ** 2, rtol=0, atol=0.002
    )


def test_squared_score_leaves_out_what_is_not_trained() -> None:
    module = toy()
    module[1].requires_grad_(False)
    images = normalise64(MemorySource().pixels[:4])
    found = squared_score(module, images, torch.Generator().manual_seed(0))
    assert set(found) == {"3.weight", "3.bias"}


@pytest.mark.parametrize(("samples", "n"), [(1024, 70), (50, 50), (33, 33), (1, 1)])
def test_the_fisher_matrix_is_the_mean_over_a_sample_of_the_downstream_images(
    samples: int, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = toy_with_batchnorm()
    bench = ToyBench(module, MemorySource(n=70))
    draws = Draws(monkeypatch)
    method = EWC(EWCConfig(fisher_samples=samples))
    method.prepare(module, bench)
    chosen, drawn = torch.cat(bench.source.asked), torch.cat(draws.labels)
    assert len(chosen) == len(set(chosen.tolist())) == n
    assert bench.id_source.asked == []
    expected = plain_score_squares(module, normalise64(bench.source.pixels[chosen]), drawn)
    for name, square in expected.items():
        torch.testing.assert_close(method.fisher[name], square / n, **EXACT)


def test_the_fisher_matrix_may_be_of_id_training_images(monkeypatch: pytest.MonkeyPatch) -> None:
    module = toy()
    bench = ToyBench(module)
    draws = Draws(monkeypatch)
    method = EWC(EWCConfig(data="id-train"))
    method.prepare(module, bench)
    chosen = torch.cat(bench.id_source.asked)
    assert sorted(chosen.tolist()) == [0, 1, 2, 3, 4]
    assert bench.source.asked == []
    images = normalise64(bench.id_source.pixels[chosen])
    expected = plain_score_squares(module, images, torch.cat(draws.labels))
    for name, square in expected.items():
        torch.testing.assert_close(method.fisher[name], square / 5, **EXACT)


def test_the_fisher_matrix_is_the_same_each_time() -> None:
    first, second = (EWC(EWCConfig(fisher_samples=9)) for _ in range(2))
    for method in (first, second):
        method.prepare(toy(), ToyBench(toy(), MemorySource(n=40)))
    assert all(torch.equal(first.fisher[name], second.fisher[name]) for name in first.fisher)


def test_ewc_penalty_gradient_and_weights(
    batch: tuple[torch.Tensor, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    start, strength = toy(), 30.0
    module, plain = copy.deepcopy(start), copy.deepcopy(start)
    method = EWC(EWCConfig(strength=strength))
    bench = ToyBench(start)
    draws = Draws(monkeypatch)
    method.prepare(module, bench)
    images = normalise64(bench.source.pixels[torch.cat(bench.source.asked)])
    squares = plain_score_squares(start, images, torch.cat(draws.labels))
    fisher = [square / len(images) for square in squares.values()]

    def expected_loss(of: nn.Module) -> torch.Tensor:
        penalty = sum(
            (f * (a - b.detach()) ** 2).sum()
            for f, a, b in zip(fisher, of.parameters(), start.parameters(), strict=True)
        )
        return plain_cross_entropy(of, *batch) + strength * penalty

    away = moved(start)
    found, entropy = method.loss(step_of(away, *batch)), plain_cross_entropy(away, *batch)
    torch.testing.assert_close(found, expected_loss(away), **EXACT)
    assert float(found.detach()) > 1.5 * float(entropy.detach())  # the penalty is there
    expected = [
        g + 2 * strength * f * (a.detach() - b.detach())
        for g, f, a, b in zip(
            gradients(entropy, away), fisher, away.parameters(), start.parameters(), strict=True
        )
    ]
    assert_all_close(gradients(found, away), expected)

    optimizer = torch.optim.SGD(module.parameters(), lr=LR, momentum=MOMENTUM)
    reference = PlainSGD(plain, MOMENTUM)
    for _ in range(6):
        optimizer.zero_grad()
        method.loss(step_of(module, *batch)).backward()
        optimizer.step()
        reference.step(expected_loss(plain), LR)
    assert_all_close(parameters(module), parameters(plain))


def test_ewc_with_a_fisher_matrix_of_ones_is_l2sp(
    batch: tuple[torch.Tensor, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ones(module: nn.Module, images: torch.Tensor, _: object) -> dict[str, torch.Tensor]:
        return {n: len(images) * torch.ones_like(p) for n, p in module.named_parameters()}

    monkeypatch.setattr(ewc_module, "squared_score", ones)
    start = toy()
    losses = []
    for method in (EWC(EWCConfig(strength=0.3)), L2SP(L2SPConfig(strength=0.3))):
        method.prepare(copy.deepcopy(start), ToyBench(start))
        losses.append(method.loss(step_of(moved(start), *batch)))
    torch.testing.assert_close(losses[0], losses[1], **EXACT)
