"""Fused query-key-value layers taken apart and put together: the same outputs, the same bits."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch import nn

from workers.split_qkv import SplitQKV, fuse, fused_layers, split

BLOCKS = [f"blocks.{k}.attn.qkv" for k in range(2)]


def vit(qkv_bias: bool = True) -> nn.Module:
    torch.manual_seed(0)
    module: nn.Module = timm.create_model(
        "vit_tiny_patch16_224",
        img_size=32,
        patch_size=8,
        embed_dim=24,
        depth=2,
        num_heads=3,
        num_classes=5,
        qkv_bias=qkv_bias,
    )
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.2)
    return module.double().eval()


@pytest.mark.parametrize("qkv_bias", [True, False])
def test_split_layers_give_the_same_logits_and_fuse_to_the_same_bits(qkv_bias: bool) -> None:
    start = vit(qkv_bias)
    images = torch.randn(3, 3, 32, 32, dtype=torch.float64)
    module = split(copy.deepcopy(start))
    assert fused_layers(module) == []
    torch.testing.assert_close(module(images), start(images), rtol=1e-12, atol=1e-12)
    fuse(module)
    assert fused_layers(module) == BLOCKS
    before, after = start.state_dict(), module.state_dict()
    assert list(after) == list(before)
    for name, tensor in after.items():
        assert tensor.dtype == torch.float64
        assert torch.equal(tensor, before[name]), name
    assert module.blocks[0].attn.qkv.bias is None or qkv_bias


def test_q_k_and_v_are_thirds_of_the_rows() -> None:
    start = vit()
    fused = start.blocks[1].attn.qkv
    part = SplitQKV(fused)
    for number, layer in enumerate((part.q, part.k, part.v)):
        rows = slice(24 * number, 24 * (number + 1))
        assert torch.equal(layer.weight, fused.weight[rows])
        assert torch.equal(layer.bias, fused.bias[rows])
        assert layer.weight.data_ptr() != fused.weight[rows].data_ptr()  # a copy


def test_attention_takes_its_queries_from_q_and_its_values_from_v() -> None:
    """With no queries every token attends alike; with no values nothing comes out but biases."""
    module = split(vit())
    attention = module.blocks[0].attn
    tokens = torch.randn(1, 6, 24, dtype=torch.float64)
    with torch.no_grad():
        attention.qkv.q.weight.zero_()
        attention.qkv.q.bias.zero_()
        out = attention(tokens)
        torch.testing.assert_close(out, out[:, :1].expand_as(out), rtol=1e-12, atol=1e-12)
        attention.qkv.v.weight.zero_()
        attention.qkv.v.bias.zero_()
        expected = attention.proj.bias.expand_as(out)
        torch.testing.assert_close(attention(tokens), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "architecture",
    [
        "maxvit_tiny_tf_224",  # Q, K and V head by head
        "gcvit_xxtiny",  # some layers make K and V alone
        "beit_base_patch16_224",  # uses the layer's weights, not the layer
        "efficientformer_l1",  # V is larger than Q and K
        "resnet18",
    ],
)
def test_layers_of_another_make_are_left_alone(architecture: str) -> None:
    with torch.device("meta"):
        module = timm.create_model(architecture)
    assert fused_layers(module) == []


def test_swin_s_layers_are_split() -> None:
    torch.manual_seed(0)
    module = timm.create_model(
        "swin_tiny_patch4_window7_224",
        img_size=28,
        window_size=7,
        embed_dim=12,
        depths=(1, 1),
        num_heads=(2, 2),
        num_classes=4,
    ).eval()
    images = torch.randn(2, 3, 28, 28)
    with torch.no_grad():
        before = module(images)
        assert len(fused_layers(module)) == 2
        torch.testing.assert_close(split(module)(images), before, rtol=1e-5, atol=1e-6)
