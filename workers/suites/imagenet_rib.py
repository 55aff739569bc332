"""`imagenet-rib`: ImageNet-RIB (arXiv 2410.21582), read as its data sets' archives unpack.

ImageNet-1K's val set is the ID set, and eight sets that share its classes are the OOD sets. See
docs/data-sets.md for the folders, the counts and the traps.
"""

from __future__ import annotations

from workers.suites._imagenet import imagenet_1k, imagenet_a, imagenet_r
from workers.suites._imagenet_models import MODELS, PARAMETERS
from workers.suites._imagenet_published import PUBLISHED
from workers.suites.base import Clause, DatasetSpec, Suite, corruption_splits

CORRUPTIONS = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
"""ImageNet-C's 15, in its paper's order. Its four extra ones are no part of the benchmark."""

SEVERITIES = (1, 2, 3, 4, 5)

OBJECTNET_CLAUSE = Clause(
    "objectnet-no-tuning-clause",
    "ObjectNet's licence says that it may never be used to tune the parameters of any model",
)

SUITE = Suite(
    name="imagenet-rib",
    version="1",
    space=imagenet_1k(),
    id=DatasetSpec(
        "imagenet-1k",
        "imagenet/val",
        n_images=50_000,
        aliases=(
            "imagenet/images/val",
            "imagenet-1k/val",
            "imagenet_1k/val",
            "imagenet1k/val",
            "ILSVRC2012/val",
            "ILSVRC/Data/CLS-LOC/val",
            "imagenet-val",
            "ILSVRC2012_img_val",
            "val",
        ),
    ),
    ood=(
        DatasetSpec(
            "imagenet-v2",
            "imagenetv2-matched-frequency-format-val",
            "index_folders",
            n_images=10_000,
            aliases=("imagenetv2-matched-frequency", "imagenet-v2", "imagenet_v2", "imagenetv2"),
        ),
        DatasetSpec(
            "imagenet-a",
            "imagenet-a",
            classes=imagenet_a(),
            n_images=7_500,
            aliases=("imagenet_a", "imageneta", "imagenet-adversarial"),
        ),
        DatasetSpec(
            "imagenet-r",
            "imagenet-r",
            classes=imagenet_r(),
            n_images=30_000,
            aliases=("imagenet_r", "imagenetr", "imagenet-rendition"),
        ),
        DatasetSpec(
            "imagenet-sketch",
            "sketch",
            n_images=50_889,
            aliases=("imagenet-sketch", "imagenet_sketch", "imagenetsketch"),
        ),
        DatasetSpec(
            "objectnet",
            "objectnet-1.0",
            "objectnet",
            n_images=18_574,
            n_classes=113,
            n_indices=125,
            no_tuning=OBJECTNET_CLAUSE,
            options={"border": 2},
            aliases=("objectnet",),
        ),
        DatasetSpec(
            "imagenet-cartoon",
            "imagenet-cartoon",
            n_images=50_000,
            derived_from="imagenet-1k",
            aliases=("datasets/imagenet-cartoon", "imagenet_cartoon", "imagenetcartoon"),
        ),
        DatasetSpec(
            "imagenet-drawing",
            "imagenet-drawing",
            n_images=50_000,
            derived_from="imagenet-1k",
            aliases=("datasets/imagenet-drawing", "imagenet_drawing", "imagenetdrawing"),
        ),
        DatasetSpec(
            "imagenet-c",
            "imagenet-c",
            "corruption_folders",
            n_images=15 * 5 * 50_000,
            derived_from="imagenet-1k",
            splits=corruption_splits(CORRUPTIONS, SEVERITIES),
            aliases=("imagenet_c", "imagenetc"),
        ),
    ),
    models=MODELS,
    published=PUBLISHED,
    parameters=PARAMETERS,
)
