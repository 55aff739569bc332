"""The pre-trained models of ImageNet-RIB (arXiv 2410.21582): timm's, and what they were fed.

A grid may name any other model of timm, too. These are known without importing timm, which takes
seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workers.cell import Model

_Transform = Mapping[str, Any]


def _transform(
    crop_pct: float, interpolation: str, mean: Sequence[float], std: Sequence[float]
) -> _Transform:
    return {
        "input_size": [3, 224, 224],
        "crop_pct": crop_pct,
        "crop_mode": "center",
        "interpolation": interpolation,
        "mean": list(mean),
        "std": list(std),
    }


# What timm has for them. Written down here it is the benchmark's: no other timm can change it.
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_OPENAI = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_AUGREG = _transform(0.9, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_MIIL = _transform(0.875, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
_CLIP = _transform(0.9, "bicubic", *_OPENAI)
_CLIP_UNCROPPED = _transform(1.0, "bicubic", *_OPENAI)
_TORCHVISION = _transform(0.875, "bilinear", *_IMAGENET)
_RESNET50_TV2 = _transform(0.965, "bilinear", *_IMAGENET)

_MODELS: dict[str, tuple[str, int, _Transform]] = {
    "vit_base_patch16_224.augreg_in1k": ("IN-1K+AugReg", 86_567_656, _AUGREG),
    "vit_base_patch16_224.sam_in1k": ("IN-1K+SAM", 86_567_656, _AUGREG),
    "vit_base_patch16_224.orig_in21k_ft_in1k": ("IN-21K", 86_567_656, _AUGREG),
    "vit_base_patch16_224_miil.in21k_ft_in1k": ("IN-21K-P", 86_540_008, _MIIL),
    "vit_base_patch16_224.augreg_in21k_ft_in1k": ("IN-21K+AugReg", 86_567_656, _AUGREG),
    "vit_base_patch16_clip_224.openai_ft_in1k": ("OpenAI", 86_568_424, _CLIP),
    "vit_base_patch16_clip_224.laion2b_ft_in1k": ("LAION-2B", 86_568_424, _CLIP_UNCROPPED),
    "vit_base_patch32_224.augreg_in1k": ("IN-1K+AugReg", 88_224_232, _AUGREG),
    "vit_base_patch32_224.sam_in1k": ("IN-1K+SAM", 88_224_232, _AUGREG),
    "vit_base_patch32_224.augreg_in21k_ft_in1k": ("IN-21K+AugReg", 88_224_232, _AUGREG),
    "vit_base_patch32_clip_224.openai_ft_in1k": ("OpenAI", 88_225_000, _CLIP),
    "vit_base_patch32_clip_224.laion2b_ft_in1k": ("LAION-2B", 88_225_000, _CLIP),
    "vit_small_patch16_224.augreg_in1k": ("IN-1K+AugReg", 22_050_664, _AUGREG),
    "vit_small_patch16_224.augreg_in21k_ft_in1k": ("IN-21K+AugReg", 22_050_664, _AUGREG),
    "vit_small_patch32_224.augreg_in21k_ft_in1k": ("IN-21K+AugReg", 22_878_952, _AUGREG),
    "vit_large_patch16_224.augreg_in21k_ft_in1k": ("IN-21K+AugReg", 304_326_632, _AUGREG),
    "resnet18.tv_in1k": ("IN-1K", 11_689_512, _TORCHVISION),
    "resnet50.tv_in1k": ("IN-1K", 25_557_032, _TORCHVISION),
    "resnet50.tv2_in1k": ("IN-1K", 25_557_032, _RESNET50_TV2),
}
"""timm name -> pre-training, number of parameters, evaluation transform."""

MODELS: tuple[Model, ...] = tuple(
    Model(name, name, f"timm:{name}", pretraining=pretraining, transform=transform)
    for name, (pretraining, _, transform) in _MODELS.items()
)

PARAMETERS: dict[str, int] = {name: n_parameters for name, (_, n_parameters, _) in _MODELS.items()}
"""Model -> number of parameters, with the head of 1000 classes."""
