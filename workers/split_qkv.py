"""Taking apart timm's fused query-key-value layers, and putting them together again."""

from __future__ import annotations

import torch
from timm.models.swin_transformer import WindowAttention
from timm.models.vision_transformer import Attention  # type: ignore[attr-defined]
from torch import nn

THIRDS = (Attention, WindowAttention)
"""Attention whose layer `qkv` gives Q, K and V, in three parts of one size.

Elsewhere in timm a layer of that name mixes them head by head (MaxViT), has parts of other sizes
(GCViT, EfficientFormer), or is not called at all: its weights are used (BEiT, Swin V2).
"""


class SplitQKV(nn.Module):
    """Three projections that give what one fused layer gave: [..., q, k, v]."""

    def __init__(self, fused: nn.Linear) -> None:
        super().__init__()
        self.q, self.k, self.v = (_slice(fused, number) for number in range(3))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map [..., D] to [..., 3 * E]."""
        return torch.cat([self.q(inputs), self.k(inputs), self.v(inputs)], dim=-1)

    def fused(self) -> nn.Linear:
        """Return one layer with the weights of the three."""
        parts = (self.q, self.k, self.v)
        size = sum(part.out_features for part in parts)
        layer = nn.Linear(self.q.in_features, size, self.q.bias is not None)
        with torch.no_grad():
            layer.weight.copy_(torch.cat([part.weight for part in parts]))
            if self.q.bias is not None:
                layer.bias.copy_(torch.cat([part.bias for part in parts]))
        return layer.to(self.q.weight)


def _slice(fused: nn.Linear, number: int) -> nn.Linear:
    size = fused.out_features // 3
    rows = slice(number * size, (number + 1) * size)
    layer = nn.Linear(fused.in_features, size, fused.bias is not None)
    with torch.no_grad():
        layer.weight.copy_(fused.weight[rows])
        if fused.bias is not None:
            layer.bias.copy_(fused.bias[rows])
    return layer.to(fused.weight)


def fused_layers(module: nn.Module) -> list[str]:
    """Return the names of the layers that make Q, K and V together and can be taken apart."""
    return [
        f"{name}.qkv"
        for name, attention in module.named_modules()
        if isinstance(attention, THIRDS) and isinstance(attention.qkv, nn.Linear)
    ]


def split(module: nn.Module) -> nn.Module:
    """Take every fused layer apart, in place."""
    for name in fused_layers(module):
        fused = module.get_submodule(name)
        assert isinstance(fused, nn.Linear)
        _replace(module, name, SplitQKV(fused))
    return module


def fuse(module: nn.Module) -> nn.Module:
    """Undo `split`, in place."""
    for name, layer in list(module.named_modules()):
        if isinstance(layer, SplitQKV):
            _replace(module, name, layer.fused())
    return module


def _replace(module: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(module.get_submodule(parent), child, layer)
