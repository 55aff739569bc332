"""Surgical fine-tuning: the chosen layers move, BatchNorm statistics included, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from tests.embedded import bench_of, cell_of, made
from workers.cell import Model
from workers.methods.surgical import Surgical, SurgicalConfig, layers_of
from workers.models import create

RESNET = [("conv1.", "bn1."), ("layer1.",), ("layer2.",), ("layer3.",), ("layer4.",), ("fc.",)]
VIT = [
    ("pos_embed", "patch_embed."),
    *((f"blocks.{k}.",) for k in range(4)),
    ("fc_norm.", "head."),
]
"""The layers of the embedded models, by how the names of their weights begin."""


@pytest.mark.parametrize(("model", "layers"), [("resnet", RESNET), ("vit", VIT)])
def test_layers_are_the_stem_the_blocks_and_the_classifier(
    model: str, layers: list[tuple[str, ...]], request: pytest.FixtureRequest
) -> None:
    module = create(request.getfixturevalue(model))
    names = [name for name, _ in module.named_parameters()]
    expected = [[n for n in names if n.startswith(beginnings)] for beginnings in layers]
    assert sum(map(len, expected)) == len(names)
    assert layers_of(module) == expected


@pytest.mark.parametrize(
    ("model", "chosen", "moves"),
    [
        ("resnet", (1,), ("layer1.",)),
        ("resnet", (0, -1), ("conv1.", "bn1.", "fc.")),
        ("resnet", (-2,), ("layer4.",)),
        ("vit", (1,), ("blocks.0.",)),
        ("vit", (-2, 2), ("blocks.3.", "blocks.1.")),
        ("vit", (-6,), ("pos_embed", "patch_embed.")),
    ],
)
def test_only_chosen_layers_move(
    model: str,
    chosen: tuple[int, ...],
    moves: tuple[str, ...],
    request: pytest.FixtureRequest,
    digits_root: Path,
    tmp_path: Path,
) -> None:
    """Weights and, on the ResNet, running statistics and counters of each BatchNorm."""
    cell = cell_of("surgical", request.getfixturevalue(model), layers=chosen)
    start = bench_of(cell, digits_root, tmp_path).pretrained().state_dict()
    state = made(cell, digits_root, tmp_path).state_dict()
    for name, tensor in state.items():
        assert torch.equal(tensor, start[name]) != name.startswith(moves), name


def test_layers_that_are_not_there_are_refused_with_those_that_are(resnet: Model) -> None:
    module = create(resnet)
    for k in (-6, 0, 5):
        assert Surgical.unfit(SurgicalConfig(layers=(k,)), module) == ""
    reason = Surgical.unfit(SurgicalConfig(layers=(0, 6, -7)), module)
    assert reason == "the architecture has layers -6 to 5, not [6, -7]"


def test_settings() -> None:
    assert SurgicalConfig().layers == (1,)
    for wrong in ((), (1, 1)):
        with pytest.raises(ValidationError):
            SurgicalConfig(layers=wrong)
