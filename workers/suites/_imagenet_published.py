"""Published top-1 of pre-trained models, as they came, on ImageNet-RIB's data sets.

From the result tables of the timm project (in percent; A and R over their own 200 classes).
"""

from __future__ import annotations

_SETS = ("imagenet-1k", "imagenet-v2", "imagenet-a", "imagenet-r", "imagenet-sketch")

_NOT_PUBLISHED = None

_TOP_1: dict[str, tuple[float | None, ...]] = {
    "vit_base_patch16_224.augreg_in1k": (79.154, 66.340, 14.907, 38.140, 27.973),
    "vit_base_patch16_224.sam_in1k": (80.246, 68.370, 9.013, 40.113, 27.717),
    "vit_base_patch16_224.orig_in21k_ft_in1k": (81.782, 71.070, 31.587, 47.400, 35.776),
    "vit_base_patch16_224_miil.in21k_ft_in1k": (84.278, 74.060, 34.120, 51.557, 40.184),
    "vit_base_patch16_224.augreg_in21k_ft_in1k": (84.534, 74.100, 43.133, 56.860, 43.261),
    "vit_base_patch16_clip_224.openai_ft_in1k": (85.282, 76.090, 47.453, 65.883, 50.993),
    "vit_base_patch16_clip_224.laion2b_ft_in1k": (85.488, 75.790, 41.960, 68.703, 55.426),
    "vit_base_patch32_224.augreg_in1k": (74.908, 61.010, 7.827, 37.590, 27.141),
    "vit_base_patch32_224.sam_in1k": (73.704, 59.980, 4.307, 36.590, 23.054),
    "vit_base_patch32_224.augreg_in21k_ft_in1k": (80.732, 69.430, 22.227, 49.380, 37.098),
    "vit_base_patch32_clip_224.openai_ft_in1k": (81.944, 70.730, 22.747, 55.847, 45.033),
    "vit_base_patch32_clip_224.laion2b_ft_in1k": (82.614, 71.380, 23.067, 59.010, 49.074),
    "vit_small_patch16_224.augreg_in1k": (78.842, 66.590, 13.080, 37.123, 25.953),
    "vit_small_patch16_224.augreg_in21k_ft_in1k": (81.402, 70.630, 26.787, 46.033, 32.893),
    "vit_small_patch32_224.augreg_in21k_ft_in1k": (76.010, 63.920, 11.587, 39.757, 26.183),
    "vit_large_patch16_224.augreg_in21k_ft_in1k": (85.856, 76.180, 55.293, 64.367, 51.832),
    "resnet18.tv_in1k": (69.752, 57.350, 1.120, 33.023, 20.238),
    "resnet50.tv_in1k": (76.156, 63.190, _NOT_PUBLISHED, 36.157, 24.064),
    "resnet50.tv2_in1k": (80.846, 69.510, 14.387, 42.840, 29.869),
}

_DERIVED: dict[str, dict[str, float]] = {
    "resnet50.tv_in1k": {"imagenet-cartoon": 53.96, "imagenet-drawing": 23.74},
}
"""On sets that timm has no tables of: what is published of torchvision's weights."""

PUBLISHED: dict[str, dict[str, float]] = {
    model: {name: top1 for name, top1 in zip(_SETS, row, strict=True) if top1 is not None}
    | _DERIVED.get(model, {})
    for model, row in _TOP_1.items()
}
"""Model -> evaluation set -> percent."""
