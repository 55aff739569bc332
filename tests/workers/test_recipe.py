"""The learning rate's course, against hand-computed values and PyTorch's own schedule."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR

from workers.cell import Model
from workers.models import create
from workers.recipe import Recipe
from workers.train import make_optimizer

SQRT_HALF = 0.7071067811865476


def test_the_paper_s_recipe() -> None:
    assert Recipe().model_dump() == {
        "optimizer": "sgd",
        "lr": 1e-3,
        "momentum": 0.9,
        "weight_decay": 0.0,
        "decay_norms_and_biases": True,
        "layer_decay": None,
        "clip_grad": None,
        "label_smoothing": 0.0,
        "schedule": "cosine",
        "warmup_steps": 196,
        "warmup_epochs": None,
        "epochs": 10,
        "batch_size": 64,
        "precision": "fp16",
        "augment": None,
        "holdout": 0.0,
        "patience": None,
    }


def test_cosine_after_warm_up_by_hand() -> None:
    recipe = Recipe(warmup_steps=4)
    factors = [recipe.lr_factor(step, 12) for step in range(13)]
    half_turn = [
        (1 + c) / 2 for c in (1, math.cos(math.pi / 8), SQRT_HALF, math.cos(3 * math.pi / 8))
    ]
    expected = [0.25, 0.5, 0.75, 1.0, *half_turn, 0.5]
    assert factors[:9] == pytest.approx(expected, abs=1e-12)
    assert factors[10] == pytest.approx((1 - SQRT_HALF) / 2, abs=1e-12)
    assert factors[12] == pytest.approx(0.0, abs=1e-12)


def test_constant_after_warm_up() -> None:
    recipe = Recipe(schedule="constant", warmup_steps=2)
    assert [recipe.lr_factor(step, 6) for step in range(6)] == [0.5, 1, 1, 1, 1, 1]


def test_linear_after_warm_up() -> None:
    recipe = Recipe(schedule="linear", warmup_steps=2)
    factors = [recipe.lr_factor(step, 7) for step in range(8)]
    assert factors == pytest.approx([0.5, 1, 1, 0.8, 0.6, 0.4, 0.2, 0])


@pytest.mark.parametrize("total", [4, 30])
def test_it_is_torch_s_linear_decay(total: int) -> None:
    recipe = Recipe(lr=0.02, warmup_steps=0, schedule="linear")
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.02)
    schedule = LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=total)
    for step in range(total):
        found = recipe.lr * recipe.lr_factor(step, total)
        assert found == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize(
    ("epochs", "steps_per_epoch", "steps"), [(1, 13, 13), (0.5, 13, 6), (2, 4, 8), (0, 9, 0)]
)
def test_a_warm_up_in_epochs_takes_the_place_of_that_in_steps(
    epochs: float, steps_per_epoch: int, steps: int
) -> None:
    recipe = Recipe(warmup_steps=196, warmup_epochs=epochs, schedule="constant")
    warmup = recipe.n_warmup_steps(steps_per_epoch)
    assert warmup == steps
    factors = [recipe.lr_factor(step, 40, warmup) for step in range(40)]
    assert factors == pytest.approx([(k + 1) / steps for k in range(steps)] + [1] * (40 - steps))
    assert Recipe(warmup_steps=5).n_warmup_steps(steps_per_epoch) == 5


def test_no_warm_up_starts_at_the_peak() -> None:
    assert Recipe(warmup_steps=0).lr_factor(0, 10) == 1.0
    assert Recipe(warmup_steps=0, schedule="constant").lr_factor(0, 10) == 1.0


def test_training_shorter_than_its_warm_up_never_reaches_the_peak() -> None:
    recipe = Recipe(warmup_steps=196)
    assert recipe.lr_factor(29, 30) == pytest.approx(30 / 196)
    assert recipe.lr_factor(196, 196) == 1.0


@pytest.mark.parametrize(("warmup", "total"), [(0, 20), (5, 25), (196, 7820)])
def test_it_is_torch_s_cosine_after_warm_up(warmup: int, total: int) -> None:
    recipe = Recipe(lr=0.02, warmup_steps=warmup)
    weight = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.02)
    schedule = CosineAnnealingLR(optimizer, T_max=total - warmup)
    for step in range(warmup, total):
        found = recipe.lr * recipe.lr_factor(step, total)
        assert found == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6, abs=1e-12)
        optimizer.step()
        schedule.step()


@settings(deadline=None)
@given(st.integers(0, 50), st.integers(1, 200))
def test_the_factor_is_in_0_1_and_falls_after_warm_up(warmup: int, total: int) -> None:
    recipe = Recipe(warmup_steps=warmup)
    factors = [recipe.lr_factor(step, total) for step in range(total)]
    assert all(0 < factor <= 1 for factor in factors)
    rising, falling = factors[:warmup], factors[warmup:]
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"lr": 0},
        {"lr": float("nan")},
        {"lr": float("inf")},
        {"momentum": 1.0},
        {"weight_decay": -1e-4},
        {"warmup_steps": -1},
        {"epochs": 0},
        {"batch_size": 0},
        {"optimizer": "adam"},
        {"schedule": "step"},
        {"warmup_epochs": -1},
        {"layer_decay": 0},
        {"layer_decay": 1.1},
        {"clip_grad": 0},
        {"label_smoothing": 1.0},
        {"holdout": 1.0},
        {"holdout": 0.1, "patience": 0},
        {"patience": 3},
        {"precision": "fp8"},
        {"learning_rate": 1e-3},
    ],
)
def test_wrong_recipes_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Recipe.model_validate(wrong)


def test_a_recipe_is_frozen() -> None:
    with pytest.raises(ValidationError):
        Recipe().lr = 1.0  # type: ignore[misc]


def linear() -> nn.Module:
    module = nn.Linear(2, 1).double()
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[1.0, -2.0]]))
        module.bias.fill_(0.5)
    return module


def test_sgd_with_momentum_and_weight_decay_by_hand() -> None:
    module = linear()
    recipe = Recipe(optimizer="sgd", lr=0.1, momentum=0.5, weight_decay=0.2)
    optimizer = make_optimizer(module, recipe)
    w, v = 1.0, 0.0
    for gradient in (3.0, -1.0, 2.0):
        module.weight.grad = torch.tensor([[gradient, 0.0]]).double()
        module.bias.grad = torch.zeros(1).double()
        optimizer.step()
        v = 0.5 * v + gradient + 0.2 * w
        w -= 0.1 * v
    assert module.weight[0, 0].item() == pytest.approx(w, rel=1e-12)


def test_adamw_by_hand() -> None:
    module = linear()
    optimizer = make_optimizer(module, Recipe(optimizer="adamw", lr=0.1, weight_decay=0.2))
    w, m, s = 1.0, 0.0, 0.0
    for t, gradient in enumerate((3.0, -1.0, 2.0), start=1):
        module.weight.grad = torch.tensor([[gradient, 0.0]]).double()
        module.bias.grad = torch.zeros(1).double()
        optimizer.step()
        m, s = 0.9 * m + 0.1 * gradient, 0.999 * s + 0.001 * gradient**2
        w -= 0.1 * 0.2 * w  # decoupled: not part of the gradient
        w -= 0.1 * (m / (1 - 0.9**t)) / (math.sqrt(s / (1 - 0.999**t)) + 1e-8)
    assert module.weight[0, 0].item() == pytest.approx(w, rel=1e-9)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_only_what_requires_a_gradient_is_trained(optimizer: str) -> None:
    module = linear()
    module.bias.requires_grad_(False)
    made = make_optimizer(module, Recipe(optimizer=optimizer))
    assert [p for group in made.param_groups for p in group["params"]] == [module.weight]


# ---------------------------------------------------------------------------- groups


def test_weight_decay_leaves_norms_and_biases_alone_if_asked() -> None:
    """With no gradient, a matrix shrinks by 1 - lr * decay with each step of AdamW."""
    norm_and_linear = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3)).double()
    with torch.no_grad():
        for parameter in norm_and_linear.parameters():
            parameter.fill_(2.0)
    for everything in (True, False):
        module = copy.deepcopy(norm_and_linear)
        recipe = Recipe(
            optimizer="adamw", lr=0.1, weight_decay=0.5, decay_norms_and_biases=everything
        )
        optimizer = make_optimizer(module, recipe)
        for parameter in module.parameters():
            parameter.grad = torch.zeros_like(parameter)
        for _ in range(3):
            optimizer.step()
        shrunk = 2.0 * (1 - 0.1 * 0.5) ** 3
        for name, parameter in module.named_parameters():
            expected = shrunk if everything or name == "0.weight" else 2.0
            assert parameter.detach().flatten().tolist() == pytest.approx(
                [expected] * parameter.numel(), rel=1e-12
            ), name


@pytest.mark.parametrize("everything", [True, False])
def test_layers_learn_at_their_scale(vit: Model, everything: bool) -> None:
    """BEiT's rule (arXiv 2106.08254): decay ** (layers after it); the classifier learns at lr."""
    module, decay = create(vit), 0.65
    recipe = Recipe(
        lr=0.02, layer_decay=decay, weight_decay=0.05, decay_norms_and_biases=everything
    )
    depth = {"pos_embed": 0, "patch_embed": 0, "fc_norm": 5, "head": 5}
    depth |= {f"blocks.{k}": k + 1 for k in range(4)}
    optimizer = make_optimizer(module, recipe)
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    found = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            found[names[id(parameter)]] = (group["lr_scale"], group["weight_decay"])
    assert found.keys() == set(names.values())
    for name, (scale, weight_decay) in found.items():
        (layer,) = (number for start, number in depth.items() if name.startswith(start))
        assert scale == pytest.approx(decay ** (5 - layer)), name
        is_vector = dict(module.named_parameters())[name].ndim == 1
        assert weight_decay == (0.05 if everything or not is_vector else 0.0), name


def test_layers_of_a_resnet_learn_at_their_scale(resnet: Model) -> None:
    module = create(resnet)
    depth = {"conv1": 0, "bn1": 0, **{f"layer{k}": k for k in range(1, 5)}, "fc": 5}
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    for group in make_optimizer(module, Recipe(layer_decay=0.5)).param_groups:
        for parameter in group["params"]:
            layer = depth[names[id(parameter)].split(".")[0]]
            assert group["lr_scale"] == 0.5 ** (5 - layer)
