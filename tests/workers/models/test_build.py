"""Loading weights: only the file that was planned, only if it fits, and back out unchanged."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from workers.cell import Model
from workers.errors import DataError
from workers.images import Transform
from workers.models import (
    State,
    check_weights,
    create,
    load_pretrained,
    own_transform,
    pack_state,
    state_of,
    transform_of,
    unpack_state,
)
from workers.suites import suites

ARCHITECTURES = ["test_vit", "test_resnet"]


def fresh(architecture: str, seed: int = 0, n_classes: int = 7) -> nn.Module:
    torch.manual_seed(seed)
    module: nn.Module = timm.create_model(architecture, num_classes=n_classes)
    for _, buffer in module.named_buffers():
        buffer.copy_(torch.full_like(buffer, 3) if not buffer.is_floating_point() else buffer + 0.5)
    return module


def write(root: Path, state: State, architecture: str = "test_resnet") -> Model:
    """Write a weights file, and describe the model as a grid would."""
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, root / "w.safetensors")
    sha = hashlib.sha256((root / "w.safetensors").read_bytes()).hexdigest()
    return Model(
        "mine",
        architecture,
        f"sha256:{sha}",
        arguments={"num_classes": 7},
        file="w.safetensors",
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_saved_state_loads_into_a_fresh_timm_model(architecture: str, tmp_path: Path) -> None:
    module = fresh(architecture).eval()
    (tmp_path / "x.safetensors").write_bytes(pack_state(state_of(module)))
    other = fresh(architecture, seed=1).eval()
    images = torch.rand(2, 3, 160, 160)
    with torch.no_grad():
        assert not torch.equal(other(images), module(images))
        other.load_state_dict(load_file(tmp_path / "x.safetensors"))
        assert torch.equal(other(images), module(images))
    state = unpack_state((tmp_path / "x.safetensors").read_bytes())
    assert state.keys() == module.state_dict().keys()
    for name, tensor in module.state_dict().items():
        assert torch.equal(state[name], tensor)
        assert state[name].dtype == tensor.dtype


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_load_pretrained_fills_in_the_file_s_weights(architecture: str, tmp_path: Path) -> None:
    module = fresh(architecture)
    model = write(tmp_path, state_of(module), architecture)
    torch.manual_seed(9)
    loaded = load_pretrained(model, tmp_path)
    assert not any(part.training for part in loaded.modules())
    for name, tensor in module.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert check_weights(model, tmp_path) == []
    again = load_pretrained(model, tmp_path)
    with torch.no_grad():
        next(again.parameters()).add_(1)
    assert not torch.equal(next(again.parameters()), next(loaded.parameters()))


def test_a_weights_file_may_lie_anywhere(tmp_path: Path) -> None:
    model = write(tmp_path, state_of(fresh("test_resnet")))
    absolute = replace(model, file=str(tmp_path / "w.safetensors"))
    load_pretrained(absolute, tmp_path / "elsewhere")


def test_other_weights_than_were_planned_are_refused(tmp_path: Path) -> None:
    planned = write(tmp_path, state_of(fresh("test_resnet")))
    load_pretrained(planned, tmp_path)
    found = write(tmp_path, state_of(fresh("test_resnet", seed=1)))
    assert found.weights != planned.weights
    with pytest.raises(DataError, match="these are the weights") as caught:
        load_pretrained(planned, tmp_path)
    message = str(caught.value)
    assert str(tmp_path / "w.safetensors") in message
    assert found.weights[:15] in message
    assert planned.weights[:15] in message
    load_pretrained(found, tmp_path)


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    state = state_of(fresh("test_resnet"))
    assert {"conv1.0.weight", "fc.bias", "bn1.weight"} <= state.keys()
    state["fc.bias"] = torch.zeros(8)
    state["stranger"] = state.pop("bn1.weight")
    model = write(tmp_path, state)
    (problem,) = check_weights(model, tmp_path)
    text = str(problem)
    assert "fc.bias has shape [8], the architecture has [7]" in text
    assert "bn1.weight is missing" in text
    assert "stranger is not in the architecture" in text
    assert "test_resnet" in text
    assert "'mine'" in text
    with pytest.raises(DataError, match=r"fc\.bias has shape"):
        load_pretrained(model, tmp_path)


def test_many_misfits_are_counted(tmp_path: Path) -> None:
    state = state_of(fresh("test_resnet"))
    for name in list(state)[:10]:
        del state[name]
    (problem,) = check_weights(write(tmp_path, state), tmp_path)
    assert "and 7 more" in str(problem)


def test_a_head_of_another_size_does_not_fit(tmp_path: Path) -> None:
    model = write(tmp_path, state_of(fresh("test_vit", n_classes=9)), "test_vit")
    (problem,) = check_weights(model, tmp_path)
    assert "head.weight has shape [9, 64], the architecture has [7, 64]" in str(problem)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    model = Model("m", "test_resnet", "sha256:0", file="other.pth")
    (problem,) = check_weights(model, tmp_path)
    assert str(problem) == f"{tmp_path}/other.pth: there is no such weights file (models entry 'm')"
    with pytest.raises(DataError, match="no such weights file"):
        load_pretrained(model, tmp_path)


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    model = write(tmp_path, state_of(fresh("test_resnet")))
    path = tmp_path / "w.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"w\.safetensors"):
        load_pretrained(model, tmp_path)


def test_checking_weights_draws_no_random_numbers(tmp_path: Path) -> None:
    model = write(tmp_path, state_of(fresh("test_resnet")))
    before = torch.random.get_rng_state()
    check_weights(model, tmp_path)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("architecture", "size", "crop", "interpolation"),
    [
        ("resnet50.tv2_in1k", 224, 0.965, "bilinear"),
        ("resnet18.tv_in1k", 224, 0.875, "bilinear"),
        ("vit_base_patch16_224.augreg_in1k", 224, 0.9, "bicubic"),
        ("vit_base_patch16_clip_224.laion2b_ft_in1k", 224, 1.0, "bicubic"),
        ("vit_base_patch16_224_miil.in21k_ft_in1k", 224, 0.875, "bilinear"),
    ],
)
def test_transforms_are_those_of_timm_s_published_results(
    architecture: str, size: int, crop: float, interpolation: str
) -> None:
    """timm's result tables print them (results-imagenet.csv); some differ from training's."""
    model = Model("m", architecture, "timm:x")
    own = own_transform(model)
    assert own["input_size"] == [3, size, size]
    assert (own["crop_pct"], own["interpolation"]) == (crop, interpolation)
    with torch.device("meta"):
        transform = transform_of(model, create(model))
    assert transform == Transform.from_config(own)


def test_a_suite_s_transforms_are_timm_s() -> None:
    for model in suites()["imagenet-rib"].models:
        assert dict(model.transform) == own_transform(replace(model, transform={})), model.name


def test_state_of_is_a_copy() -> None:
    module = fresh("test_resnet")
    state = state_of(module)
    name = next(iter(state))
    with torch.no_grad():
        dict(module.named_parameters())[name].add_(1)
    assert not torch.equal(state[name], module.state_dict()[name])
    assert not any(tensor.requires_grad for tensor in state.values())


def test_arguments_reach_timm() -> None:
    model = Model("m", "test_vit", "timm:x", arguments={"num_classes": 5, "img_size": 32})
    assert create(model)(torch.zeros(1, 3, 32, 32)).shape == (1, 5)
