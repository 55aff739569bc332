"""LwF: loss, gradient and update against its formula, and what the teacher may not do."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from tests.workers.methods import (
    COLUMNS,
    TARGETS,
    MemorySource,
    PlainSGD,
    ToyBench,
    normalise64,
    plain_cross_entropy,
    step_of,
    toy,
    toy_with_batchnorm,
)
from workers.methods.lwf import LwF, LwFConfig, distillation

ALPHA, T = 0.6, 3.0
CLOSE = {"rtol": 1e-5, "atol": 1e-7}  # teacher logits are float32 in a training step


def plain_distance(student: torch.Tensor, teacher: torch.Tensor, t: float) -> torch.Tensor:
    """Mean over the batch of sum_k p0_k (log p0_k - log p_k), p = softmax(z / t)."""
    total = torch.zeros((), dtype=student.dtype)
    for z, z0 in zip(student, teacher, strict=True):
        p, p0 = (z / t).exp() / (z / t).exp().sum(), (z0 / t).exp() / (z0 / t).exp().sum()
        total = total + (p0 * (p0.log() - p.log())).sum()
    return total / len(student)


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    source = MemorySource()
    return normalise64(source.pixels[:8]), source.labels[:8]


@pytest.fixture(params=["teacher's logits kept", "teacher asked each time"], autouse=True)
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param != "teacher's logits kept":
        monkeypatch.setattr("workers.methods.lwf.KEPT_LOGITS", 0)


def prepared(start: nn.Module, alpha: float = ALPHA, temperature: float = T) -> LwF:
    method = LwF(LwFConfig(alpha=alpha, temperature=temperature))
    method.prepare(copy.deepcopy(start), ToyBench(start))
    return method


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_distillation_is_the_kl_divergence_from_the_teacher(temperature: float) -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 7, 5, dtype=torch.float64)
    student.requires_grad_()
    found = distillation(student, teacher, temperature)
    expected = plain_distance(student, teacher, temperature)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    (gradient,) = torch.autograd.grad(found, student)
    # d KL / d z = (p - p0) / (T B): one 1 / T, as there is no factor T^2
    p, p0 = ((z / temperature).softmax(dim=1) for z in (student.detach(), teacher))
    by_formula = (p - p0) / (temperature * len(p))
    torch.testing.assert_close(gradient, by_formula, rtol=1e-10, atol=1e-12)


def test_distillation_by_hand() -> None:
    """(1/2, 1/2) against (1/4, 3/4) is 1/2 log 2 + 1/2 log 2/3; the second image adds nothing."""
    student = torch.tensor([[1.0, 3.0], [1.0, 1.0]]).log()
    teacher = torch.zeros(2, 2)
    expected = (0.5 * math.log(2) + 0.5 * math.log(2 / 3)) / 2
    assert float(distillation(student, teacher, 1.0)) == pytest.approx(expected, rel=1e-6)


def test_the_paper_s_defaults() -> None:
    assert (LwFConfig().alpha, LwFConfig().temperature) == (1.0, 2.0)


def test_loss_and_gradient(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    start, module = toy(0), toy(1)
    images, labels = batch
    method = prepared(start)
    found = method.loss(step_of(module, images, labels))

    with torch.no_grad():
        teacher = start(images)[:, COLUMNS]
    logits = module(images)[:, COLUMNS]
    expected = plain_cross_entropy(module, images, labels) + ALPHA * plain_distance(
        logits, teacher, T
    )
    torch.testing.assert_close(found, expected, **CLOSE)
    with torch.no_grad():
        unmasked = float(plain_distance(module(images), start(images), T))
        masked = float(plain_distance(logits, teacher, T))
    assert abs(unmasked - masked) > 0.2 * masked  # the masks matter

    one_hot = torch.zeros_like(logits)
    one_hot[torch.arange(len(labels)), torch.tensor(TARGETS)[labels]] = 1
    p, p_t, p0_t = ((z).softmax(dim=1) for z in (logits, logits / T, teacher / T))
    in_logits = (p - one_hot) / len(labels) + ALPHA * (p_t - p0_t) / (T * len(labels))
    by_formula = torch.autograd.grad(logits, list(module.parameters()), in_logits.detach())
    gradients = torch.autograd.grad(found, list(module.parameters()))
    for gradient, formula in zip(gradients, by_formula, strict=True):
        torch.testing.assert_close(gradient, formula, **CLOSE)


def test_weights_after_several_steps(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    start = toy(0)
    module, plain = copy.deepcopy(start), copy.deepcopy(start)
    method = prepared(start)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.3, momentum=0.9)
    reference = PlainSGD(plain, 0.9)
    with torch.no_grad():
        teacher = start(batch[0])[:, COLUMNS]
    for _ in range(6):
        optimizer.zero_grad()
        method.loss(step_of(module, *batch)).backward()
        optimizer.step()
        distance = plain_distance(plain(batch[0])[:, COLUMNS], teacher, T)
        reference.step(plain_cross_entropy(plain, *batch) + ALPHA * distance, 0.3)
    for found, expected in zip(module.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(found, expected, **CLOSE)
    with torch.no_grad():
        assert float((module(batch[0])[:, COLUMNS] - teacher).abs().max()) > 0.1


def test_the_teacher_stays_as_it_was(
    batch: tuple[torch.Tensor, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.methods.lwf.KEPT_LOGITS", 0)
    start = toy_with_batchnorm()
    module = copy.deepcopy(start)
    method = LwF(LwFConfig())
    method.prepare(module, ToyBench(start))
    module.train()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.3)
    for _ in range(3):
        optimizer.zero_grad()
        method.loss(step_of(module, *batch)).backward()
        optimizer.step()
    teacher = method.teacher
    assert not any(part.training for part in teacher.modules())
    assert not any(p.requires_grad or p.grad is not None for p in teacher.parameters())
    for name, tensor in teacher.state_dict().items():
        assert torch.equal(tensor, start.state_dict()[name]), name
    assert not torch.equal(module.state_dict()["1.running_mean"], start[1].running_mean)
