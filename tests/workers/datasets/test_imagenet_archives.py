"""ImageNet-RIB's nine sets as their archives unpack, with what has misled others in them.

In `tests.imagenet_archives` every image shows the class that it is of, so a label is checked
against the picture itself.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import ImageFolder

from tests.imagenet_archives import (
    LABEL_TO_NAMES,
    MISTAKEN,
    OUTSIDE,
    SEVERAL,
    SPACE,
    Archives,
    folder_of,
    miniature,
    objectnet_indices,
    problems,
    read,
)
from workers.datasets import read_dataset
from workers.datasets.base import Split
from workers.decode import decode
from workers.errors import DataError

SUITE = miniature()
PLACES = {
    "imagenet-1k": "imagenet/val",
    "imagenet-v2": "imagenetv2-matched-frequency-format-val",
    "imagenet-a": "imagenet-a",
    "imagenet-r": "imagenet-r",
    "imagenet-sketch": "sketch",
    "objectnet": "objectnet-1.0",
    "imagenet-cartoon": "imagenet-cartoon",
    "imagenet-drawing": "imagenet-drawing",
    "imagenet-c": "imagenet-c",
}


def shown(path: Path, border: int = 0) -> int:
    """Return the class that a picture shows in its left half."""
    pixels = np.asarray(decode(path, border)).astype(float)
    hundreds, tens, ones = ((pixels[8, 4] - 10) / 25).round().astype(int)
    return int(100 * hundreds + 10 * tens + ones)


def files_of(split: Split) -> list[tuple[Path, int]]:
    return [(split.folder / name, k) for name, k in zip(split.files, split.labels, strict=True)]


# ---------------------------------------------------------------------------- every set


def test_the_archives_own_names_are_the_first_that_are_looked_for() -> None:
    assert {name: spec.folder for name, spec in SUITE.evaluation_sets.items()} == PLACES


@pytest.mark.parametrize("name", PLACES)
def test_every_label_is_the_class_that_the_picture_shows(root: Path, name: str) -> None:
    dataset = read(root, name)
    files = [file for split in dataset.splits for file in files_of(split)]
    for path, label in random.Random(0).sample(files, min(len(files), 1000)):
        assert dataset.classes.targets[label][-1] == shown(path, dataset.border), path


@pytest.mark.parametrize(
    ("name", "images", "classes", "columns"),
    [
        ("imagenet-1k", 1000, 1000, 1000),
        ("imagenet-v2", 1000, 1000, 1000),
        ("imagenet-a", 200, 200, 200),
        ("imagenet-r", 200, 200, 200),
        ("imagenet-sketch", 1000, 1000, 1000),
        ("objectnet", 113, 113, 125),
        ("imagenet-cartoon", 1000, 1000, 1000),
        ("imagenet-drawing", 1000, 1000, 1000),
        ("imagenet-c", 75_000, 1000, 1000),
    ],
)
def test_a_data_set_says_how_large_it_is(
    root: Path, name: str, images: int, classes: int, columns: int
) -> None:
    dataset = read(root, name)
    assert len(dataset) == images
    assert len(dataset.classes.classes) == classes
    assert len(dataset.classes.columns) == columns
    assert dataset.classes.is_masked == (columns < 1000)
    assert len(dataset.splits) == (75 if name == "imagenet-c" else 1)


@pytest.mark.parametrize("name", PLACES)
def test_the_published_number_of_images_is_required(root: Path, name: str) -> None:
    with pytest.raises(DataError, match="expected"):
        read_dataset(miniature(n_images=2), miniature(n_images=2).dataset(name), root)


@pytest.mark.parametrize("name", PLACES)
def test_a_set_that_is_nowhere_is_named_with_its_places(tmp_path: Path, name: str) -> None:
    (told,) = problems(tmp_path, name)
    assert PLACES[name] in told
    assert all(alias in told for alias in SUITE.dataset(name).aliases)


# ---------------------------------------------------------------------------- usual variants

VARIANTS = [
    ("imagenet-1k", Archives.val, "ILSVRC2012/val"),
    ("imagenet-1k", Archives.val, "imagenet-1k/val"),
    ("imagenet-1k", Archives.val, "ImageNet/Val"),
    ("imagenet-1k", Archives.val, "ILSVRC/Data/CLS-LOC/val"),
    ("imagenet-1k", Archives.val, "imagenet/images/val"),
    ("imagenet-1k", Archives.val, "val"),
    ("imagenet-v2", Archives.v2, "ImageNetV2/imagenetv2-matched-frequency-format-val"),
    ("imagenet-v2", Archives.v2, "imagenetv2-matched-frequency"),
    ("imagenet-a", Archives.a, "ImageNet-A"),
    ("imagenet-a", Archives.a, "imagenet-a/imagenet-a"),
    ("imagenet-a", Archives.a, "imagenet-a/val"),
    ("imagenet-a", Archives.a, "imagenet-adversarial/imagenet-a"),
    ("imagenet-r", Archives.r, "IMAGENET-R"),
    ("imagenet-r", Archives.r, "imagenet_r/test"),
    ("imagenet-sketch", Archives.sketch, "ImageNet-Sketch/sketch"),
    ("imagenet-sketch", Archives.sketch, "imagenet-sketch/images"),
    ("objectnet", Archives.objectnet, "ObjectNet"),
    ("objectnet", Archives.objectnet, "objectnet-1.0/objectnet-1.0"),
    ("imagenet-cartoon", Archives.cartoon, "imagenet-cartoon/val"),
    ("imagenet-cartoon", Archives.cartoon, "datasets/imagenet-cartoon"),
    ("imagenet-drawing", Archives.drawing, "ImageNet-Drawing"),
    ("imagenet-c", Archives.c, "ImageNet-C"),
]


@pytest.mark.parametrize(
    ("name", "unpack", "place"), VARIANTS, ids=[place for _, _, place in VARIANTS]
)
def test_variants_of_the_folders_are_read_like_the_archive(
    root: Path, tmp_path: Path, name: str, unpack: Callable[[Archives, str], Path], place: str
) -> None:
    unpack(Archives(tmp_path), place)
    assert read(tmp_path, name).digest == read(root, name).digest


@pytest.mark.parametrize("suffix", [".JPEG", ".jpeg", ".JPG", ".jpg", ".png", ".PNG"])
def test_images_end_in_any_of_the_usual_ways(tmp_path: Path, suffix: str) -> None:
    for path in Archives(tmp_path).a().rglob("*.jpg"):
        path.rename(path.with_suffix(suffix))
    dataset = read(tmp_path, "imagenet-a")
    assert len(dataset) == 200
    assert all(name.endswith(suffix) for name in dataset.splits[0].files)


# ---------------------------------------------------------------------------- imagenet val


def test_a_val_that_is_not_sorted_into_classes_is_explained(tmp_path: Path) -> None:
    folder = tmp_path / "imagenet" / "val"
    folder.mkdir(parents=True)
    for number in range(1, 4):
        (folder / f"ILSVRC2012_val_{number:08d}.JPEG").touch()
    (told,) = problems(tmp_path, "imagenet-1k")
    assert told == (
        f"{folder}: has 3 images that are not sorted into class folders "
        "(one folder per class: n01440764, ...)"
    )


def test_a_class_that_is_missing_is_named(tmp_path: Path) -> None:
    shutil.rmtree(Archives(tmp_path).val() / "n03126707")
    (told,) = problems(tmp_path, "imagenet-1k")
    assert told.endswith("1 class folders are missing: n03126707")


# ---------------------------------------------------------------------------- v2


def test_v2_s_folders_are_numbers_although_they_sort_as_text(root: Path) -> None:
    sorted_as_text = ImageFolder(str(root / PLACES["imagenet-v2"]))
    fallen_into = sum(shown(Path(path)) != label for path, label in sorted_as_text.samples)
    assert fallen_into > 900, "torchvision mislabels nearly all of it: the trap is there"
    dataset = read(root, "imagenet-v2")
    for path, label in files_of(dataset.splits[0]):
        assert dataset.classes.targets[label] == (int(path.parent.name),) == (shown(path),)


# ---------------------------------------------------------------------------- a and r


@pytest.mark.parametrize("name", ["imagenet-a", "imagenet-r"])
def test_a_subset_s_classes_are_not_the_first_200(root: Path, name: str) -> None:
    by_position = ImageFolder(str(root / PLACES[name]))
    fallen_into = sum(shown(Path(path)) != label for path, label in by_position.samples)
    assert fallen_into == 200, "the trap is there"
    dataset = read(root, name)
    for path, label in files_of(dataset.splits[0]):
        assert dataset.classes.classes[label] == path.parent.name
        assert dataset.classes.targets[label] == (SPACE.index[path.parent.name],)


def test_a_and_r_have_other_masks(root: Path) -> None:
    a, r = (set(read(root, name).classes.columns) for name in ("imagenet-a", "imagenet-r"))
    assert (len(a), len(r), len(a & r)) == (200, 200, 86)


def test_r_in_the_place_of_a_is_refused(tmp_path: Path) -> None:
    """Both have 200 folders: only their names tell."""
    Archives(tmp_path).r("imagenet-a")
    told = problems(tmp_path, "imagenet-a")
    assert len(told) == 114 + 1
    assert told[-1].startswith(f"{tmp_path}/imagenet-a: 114 class folders are missing")


# ---------------------------------------------------------------------------- objectnet


def test_objectnet_s_classes_count_with_all_their_indices(root: Path) -> None:
    dataset = read(root, "objectnet")
    targets = dict(zip(dataset.classes.classes, dataset.classes.targets, strict=True))
    several = {name for name, indices in targets.items() if len(indices) > 1}
    assert several == {folder_of(label) for label in SEVERAL}
    assert len(several) == 9
    assert sum(len(indices) for indices in targets.values()) == 125
    # Indices that anybody can look up in a list of ImageNet's classes:
    assert targets["chair"] == (423, 559, 765)  # barber chair, folding chair, rocking chair
    assert targets["skirt"] == (601, 655, 689)
    assert targets["alarm_clock"] == (409, 530)


def test_the_classes_that_others_mislabel_are_right(root: Path) -> None:
    dataset = read(root, "objectnet")
    targets = dict(zip(dataset.classes.classes, dataset.classes.targets, strict=True))
    assert {folder_of(label): targets[folder_of(label)] for label in MISTAKEN} == {
        "binder_closed": (446,),
        "iron_for_clothes": (606,),
        "jeans": (608,),
        "swimming_trunks": (842,),
        "trash_bin": (412,),
        "weight_scale": (778,),
    }


def test_objectnet_s_folders_outside_the_label_space_are_set_aside(root: Path) -> None:
    dataset = read(root, "objectnet")
    assert dataset.ignored == tuple(sorted(folder_of(label) for label in OUTSIDE))
    folders = {path.parent.name for path, _ in files_of(dataset.splits[0])}
    assert folders == {folder_of(label) for label in LABEL_TO_NAMES}


def test_objectnet_s_border_is_cropped(root: Path) -> None:
    dataset = read(root, "objectnet")
    assert dataset.border == 2
    path, _ = files_of(dataset.splits[0])[0]
    whole, inside = decode(path), decode(path, dataset.border)
    assert whole.size == (20, 20)
    assert whole.getpixel((1, 10)) == (255, 0, 0)
    assert inside.size == (16, 16)
    reds = (np.asarray(inside) == (255, 0, 0)).all(axis=-1)
    assert not reds.any()


def test_an_objectnet_of_112_classes_is_refused(tmp_path: Path) -> None:
    folder = Archives(tmp_path).objectnet()
    mapping = folder / "mappings" / "objectnet_to_imagenet_1k.json"
    mapping.write_text(json.dumps({k: v for k, v in LABEL_TO_NAMES.items() if k != "Jeans"}))
    told = "\n".join(problems(tmp_path, "objectnet"))
    assert "112 classes, 113 expected" in told
    assert "124 label indices that they map to, 125 expected" in told


def test_an_objectnet_whose_chairs_are_of_one_kind_is_refused(tmp_path: Path) -> None:
    folder = Archives(tmp_path).objectnet()
    mapping = folder / "mappings" / "objectnet_to_imagenet_1k.json"
    mapping.write_text(json.dumps({**LABEL_TO_NAMES, "Chair": "folding chair"}))
    told = "\n".join(problems(tmp_path, "objectnet"))
    assert "123 label indices that they map to, 125 expected" in told


def test_a_crane_is_refused_since_there_are_two(tmp_path: Path) -> None:
    folder = Archives(tmp_path).objectnet()
    mapping = folder / "mappings" / "objectnet_to_imagenet_1k.json"
    mapping.write_text(json.dumps({**LABEL_TO_NAMES, "Jeans": "crane"}))
    (told,) = problems(tmp_path, "objectnet")
    assert "'Jeans' maps to 'crane', which imagenet_to_label_2012_v2 lists 2 times" in told


def test_a_list_of_names_in_pytorch_s_order_is_refused(tmp_path: Path) -> None:
    """The archive's list has an order of its own; one in another would shift every label."""
    folder = Archives(tmp_path).objectnet()
    names = folder / "mappings" / "imagenet_to_label_2012_v2"
    names.write_text("".join(f"{name}\n" for name in SPACE.names))
    told = problems(tmp_path, "objectnet")
    assert len(told) > 100
    assert any("'Jeans' maps to 'jean, blue jean, denim'" in text for text in told)


def test_the_right_indices_are_found_in_any_order_of_the_list(tmp_path: Path) -> None:
    folder = Archives(tmp_path).objectnet()
    expected = read(tmp_path, "objectnet").classes
    (folder / "mappings" / "imagenet_to_label_2012_v2").write_text(
        "".join(f"{name} \r\n" for name in reversed(SPACE.names))
    )
    (folder / "mappings" / "pytorch_to_imagenet_2012_id.json").write_text(
        json.dumps({str(k): 999 - k for k in range(1000)})
    )
    assert read(tmp_path, "objectnet").classes == expected
    assert set(expected.columns) == {
        k for label in LABEL_TO_NAMES for k in objectnet_indices(label)
    }
