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
    id=DatasetSpec("val", "val"),
    ood=(
        DatasetSpec("v2", "digitsv2-matched-frequency-format-val", "index_folders"),
        DatasetSpec("a", "digits-a", classes=A_CLASSES),
        DatasetSpec("r", "digits-r", classes=R_CLASSES),
        DatasetSpec("sketch", "sketch"),
        DatasetSpec("objectnet", "objectnet-1.0", "objectnet", options={"border": 2}),
        DatasetSpec("cartoon", "digits-cartoon", derived_from="val"),
        DatasetSpec("drawing", "digits-drawing", derived_from="val"),
        DatasetSpec(
            "c",
            "digits-c",
            "corruption_folders",
            derived_from="val",
            splits=corruption_splits(CORRUPTIONS, SEVERITIES),
        ),
    ),
    id_train=DatasetSpec("train", "train"),
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
