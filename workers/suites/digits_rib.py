"""`digits-rib`: the embedded suite, made from the handwritten digits that scikit-learn ships.

It mirrors ImageNet-RIB's data sets in kind and in their layout on disk, so that a whole grid runs
on a laptop through the same code. See `workers.digits` for how it is drawn.
"""

from __future__ import annotations

from pathlib import Path

from workers.cell import Model
from workers.digits.names import (
    A_CLASSES,
    CLASS_IDS,
    CLASS_NAMES,
    CORRUPTIONS,
    R_CLASSES,
    SEVERITIES,
)
from workers.labels import LabelSpace
from workers.suites.base import DatasetSpec, Suite, corruption_splits

TRANSFORM = {
    "input_size": [3, 32, 32],
    "crop_pct": 1.0,
    "crop_mode": "center",
    "interpolation": "bicubic",
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
}


def _make(root: Path) -> None:
    from workers.digits.make import make

    make(root)


SUITE = Suite(
    name="digits-rib",
    version="1",
    space=LabelSpace(CLASS_IDS, CLASS_NAMES),
    id=DatasetSpec("val", "val", n_images=200),
    ood=(
        DatasetSpec("v2", "digitsv2-matched-frequency-format-val", "index_folders", n_images=150),
        DatasetSpec("a", "digits-a", classes=A_CLASSES, n_images=84),
        DatasetSpec("r", "digits-r", classes=R_CLASSES, n_images=484),
        DatasetSpec("sketch", "sketch", n_images=186),
        DatasetSpec(
            "objectnet",
            "objectnet-1.0",
            "objectnet",
            n_images=156,
            n_classes=7,
            n_indices=9,
            options={"border": 2},
        ),
        DatasetSpec("cartoon", "digits-cartoon", n_images=200, derived_from="val"),
        DatasetSpec("drawing", "digits-drawing", n_images=200, derived_from="val"),
        DatasetSpec(
            "c",
            "digits-c",
            "corruption_folders",
            n_images=4000,
            derived_from="val",
            splits=corruption_splits(CORRUPTIONS, SEVERITIES),
        ),
    ),
    id_train=DatasetSpec("train", "train", n_images=900),
    models=(
        Model(
            name="vit_digits",
            architecture="vit_tiny_patch16_224",
            weights="",
            pretraining="digits",
            arguments={
                "img_size": 32,
                "patch_size": 8,
                "embed_dim": 64,
                "depth": 4,
                "num_heads": 4,
                "global_pool": "avg",
                "class_token": False,
                "num_classes": 10,
            },
            transform=TRANSFORM,
            file="models/vit_digits.safetensors",
        ),
        Model(
            name="resnet_digits",
            architecture="test_resnet",
            weights="",
            pretraining="digits",
            arguments={"num_classes": 10},
            transform=TRANSFORM,
            file="models/resnet_digits.safetensors",
        ),
    ),
    make=_make,
)
