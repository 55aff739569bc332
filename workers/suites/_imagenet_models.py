"""The pre-trained models of ImageNet-RIB (arXiv 2410.21582): timm's, and what they were fed.

A grid may name any other model of timm, too. These are known without importing timm, which takes
seconds.
"""

from __future__ import annotations

from workers.cell import Model

_MODELS: dict[str, tuple[str, int]] = {
    "vit_base_patch16_224.augreg_in1k": ("IN-1K+AugReg", 86_567_656),
    "vit_base_patch16_224.sam_in1k": ("IN-1K+SAM", 86_567_656),
    "vit_base_patch16_224.orig_in21k_ft_in1k": ("IN-21K", 86_567_656),
    "vit_base_patch16_224_miil.in21k_ft_in1k": ("IN-21K-P", 86_540_008),
    "vit_base_patch16_224.augreg_in21k_ft_in1k": ("IN-21K+AugReg", 86_567_656),
    "vit_base_patch16_clip_224.openai_ft_in1k": ("OpenAI", 86_568_424),
    "vit_base_patch16_clip_224.laion2b_ft_in1k": ("LAION-2B", 86_568_424),
    "vit_base_patch32_224.augreg_in1k": ("IN-1K+AugReg", 88_224_232),
    "vit_base_patch32_224.sam_in1k": ("IN-1K+SAM", 88_224_232),
    "vit_base_patch32_224.augreg_in21k_ft_in1k": ("IN-21K+AugReg", 88_224_232),
    "vit_base_patch32_clip_224.openai_ft_in1k": ("OpenAI", 88_225_000),
    "vit_base_patch32_clip_224.laion2b_ft_in1k": ("LAION-2B", 88_225_000),
    "vit_small_patch16_224.augreg_in1k": ("IN-1K+AugReg", 22_050_664),
    "vit_small_patch16_224.augreg_in21k_ft_in1k": ("IN-21K+AugReg", 22_050_664),
    "vit_small_patch32_224.augreg_in21k_ft_in1k": ("IN-21K+AugReg", 22_878_952),
    "vit_large_patch16_224.augreg_in21k_ft_in1k": ("IN-21K+AugReg", 304_326_632),
    "resnet18.tv_in1k": ("IN-1K", 11_689_512),
    "resnet50.tv_in1k": ("IN-1K", 25_557_032),
    "resnet50.tv2_in1k": ("IN-1K", 25_557_032),
}
"""timm name -> pre-training, number of parameters."""

MODELS: tuple[Model, ...] = tuple(
    Model(name, architecture=name, weights=f"timm:{name}", pretraining=pretraining)
    for name, (pretraining, _) in _MODELS.items()
)

PARAMETERS: dict[str, int] = {name: n_parameters for name, (_, n_parameters) in _MODELS.items()}
"""Model -> number of parameters, with the head of 1000 classes."""
