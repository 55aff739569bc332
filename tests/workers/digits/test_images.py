import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from workers.digits.clutter import BORDER, SYMBOL_FOLDERS
from workers.digits.images import make_images
from workers.digits.names import (
    A_CLASSES,
    CLASS_IDS,
    CLASS_NAMES,
    CORRUPTIONS,
    FOLDER_TO_LABEL,
    LABEL_TO_CLASSES,
    R_CLASSES,
    RENDITIONS,
    SEVERITIES,
)
from workers.digits.splits import make_splits, source

V2 = "digitsv2-matched-frequency-format-val"
OBJECTNET_IMAGES = "objectnet-1.0/images"
OBJECTNET_MAPPINGS = "objectnet-1.0/mappings"
FRESH_SETS = (V2, "digits-a", "digits-r", "sketch", OBJECTNET_IMAGES)
CORRUPTED_FOLDERS = [f"digits-c/{name}/{level}" for name in CORRUPTIONS for level in SEVERITIES]
FROM_VAL = ["digits-cartoon", "digits-drawing", *CORRUPTED_FOLDERS]
REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("digits") / "made" / "by_make_images"
    make_images(root)
    return root


def files_under(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def source_digits(folder: Path) -> list[int]:
    """The source digits of the images below a folder, with repeats."""
    names = (re.match(r"digit_(\d{4})(?:_[a-z]+)?\.", path.name) for path in files_under(folder))
    return [int(match[1]) for match in names if match]


def folders_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def pixels(path: Path) -> npt.NDArray[np.float64]:
    with Image.open(path) as image:
        return np.asarray(image, dtype=np.float64)


def digest(root: Path) -> str:
    total = hashlib.sha256()
    for path in files_under(root):
        total.update(f"{path.relative_to(root)}\0{path.stat().st_size}\0".encode())
        total.update(path.read_bytes())
    return total.hexdigest()


def test_the_tree_has_its_folders_and_nothing_else(tree: Path) -> None:
    assert folders_in(tree) == {
        *("train", "val", V2, "digits-a", "digits-r", "sketch", "objectnet-1.0"),
        *("digits-cartoon", "digits-drawing", "digits-c"),
    }
    assert folders_in(tree / "objectnet-1.0") == {"images", "mappings"}
    assert folders_in(tree / "digits-c") == set(CORRUPTIONS)
    for name in CORRUPTIONS:
        assert folders_in(tree / "digits-c" / name) == {str(level) for level in SEVERITIES}


@pytest.mark.parametrize(
    ("folder", "classes"),
    [
        ("train", CLASS_IDS),
        ("val", CLASS_IDS),
        (V2, tuple("0123456789")),
        ("digits-a", A_CLASSES),
        ("digits-r", R_CLASSES),
        ("sketch", CLASS_IDS),
        (OBJECTNET_IMAGES, tuple(FOLDER_TO_LABEL)),
        *((folder, CLASS_IDS) for folder in FROM_VAL),
    ],
)
def test_a_set_has_a_folder_for_each_of_its_classes(
    tree: Path, folder: str, classes: tuple[str, ...]
) -> None:
    assert folders_in(tree / folder) == set(classes)
    assert all(files_under(tree / folder / name) for name in classes)


@pytest.mark.parametrize(
    ("folder", "suffix", "file_format"),
    [
        ("train", ".png", "PNG"),
        ("val", ".JPEG", "JPEG"),
        (V2, ".jpeg", "JPEG"),
        ("digits-a", ".jpg", "JPEG"),
        ("digits-r", ".jpg", "JPEG"),
        ("sketch", ".JPEG", "JPEG"),
        (OBJECTNET_IMAGES, ".png", "PNG"),
        ("digits-cartoon", ".jpg", "JPEG"),
        ("digits-drawing", ".jpg", "JPEG"),
        ("digits-c", ".JPEG", "JPEG"),
    ],
)
def test_images_are_rgb_of_one_size_in_the_format_of_their_suffix(
    tree: Path, folder: str, suffix: str, file_format: str
) -> None:
    side = 32 + 2 * BORDER if folder == OBJECTNET_IMAGES else 32
    for path in files_under(tree / folder):
        with Image.open(path) as image:
            found = (path.suffix, image.format, image.mode, image.size)
        assert found == (suffix, file_format, "RGB", (side, side)), path


def test_no_digit_of_id_train_is_in_another_set_and_fresh_sets_share_none(tree: Path) -> None:
    seen = Counter(
        digit
        for folder in ("train", "val", *FRESH_SETS)
        for digit in set(source_digits(tree / folder))
    )
    assert set(seen.values()) == {1}
    train = set(source_digits(tree / "train"))
    assert len(train) == 900
    for folder in ("val", *FRESH_SETS, *FROM_VAL):
        assert train.isdisjoint(source_digits(tree / folder)), folder


def stems(root: Path) -> list[str]:
    return sorted(f"{path.parent.name}/{path.stem}" for path in files_under(root))


@pytest.mark.parametrize("folder", ["digits-cartoon", "digits-drawing"])
def test_a_restyled_set_shows_every_id_val_digit_once(tree: Path, folder: str) -> None:
    assert stems(tree / folder) == stems(tree / "val")


@pytest.mark.parametrize("folder", CORRUPTED_FOLDERS)
def test_every_corrupted_split_shows_the_same_ten_id_val_digits_a_class(
    tree: Path, folder: str
) -> None:
    shown = stems(tree / folder)
    assert shown == stems(tree / CORRUPTED_FOLDERS[0])
    assert set(shown) < set(stems(tree / "val"))
    assert Counter(stem.split("/")[0] for stem in shown) == dict.fromkeys(CLASS_IDS, 10)


def test_every_image_lies_in_the_folder_of_its_digit(tree: Path) -> None:
    labels = source()[1]
    class_ids_of_folder = {
        folder: LABEL_TO_CLASSES[label]
        for folder, label in FOLDER_TO_LABEL.items()
        if label in LABEL_TO_CLASSES
    }
    for path in files_under(tree):
        match = re.match(r"digit_(\d{4})", path.name)
        if match:
            folder = path.parent.name
            class_id = CLASS_IDS[labels[int(match[1])]]
            allowed = class_ids_of_folder.get(folder, (folder, f"d{folder}"))
            assert class_id in allowed, path


def test_renditions_show_each_digit_in_every_style(tree: Path) -> None:
    stems = {path.stem for path in files_under(tree / "digits-r")}
    digits = set(source_digits(tree / "digits-r"))
    assert stems == {f"digit_{digit:04d}_{style}" for digit in digits for style in RENDITIONS}


def test_class_subsets_overlap_and_differ() -> None:
    a, r = set(A_CLASSES), set(R_CLASSES)
    assert a < set(CLASS_IDS)
    assert r < set(CLASS_IDS)
    assert a & r
    assert a - r
    assert r - a


def test_natural_hardness_is_a_nearest_neighbour_margin() -> None:
    images, labels = source()
    splits = make_splits()
    train = np.array(splits.train)

    def margin(index: int) -> int:
        distances = ((images[train] - images[index]) ** 2).sum(axis=(1, 2))
        same = labels[train] == labels[index]
        return int(distances[~same].min() - distances[same].min())

    held_out = splits.v2 + splits.r + splits.sketch + splits.objectnet
    for class_id in A_CLASSES:
        label = CLASS_IDS.index(class_id)
        picked = [margin(index) for index in splits.a if labels[index] == label]
        left = [margin(index) for index in held_out if labels[index] == label]
        assert max(picked) <= min(left)


def test_mapping_files_lead_from_every_folder_to_its_classes(tree: Path) -> None:
    mappings = tree / OBJECTNET_MAPPINGS
    assert folders_in(mappings) == {
        "folder_to_objectnet_label.json",
        "imagenet_to_label_2012_v2",
        "objectnet_to_imagenet_1k.json",
        "pytorch_to_imagenet_2012_id.json",
    }
    to_label = json.loads((mappings / "folder_to_objectnet_label.json").read_bytes())
    to_names = json.loads((mappings / "objectnet_to_imagenet_1k.json").read_bytes())
    to_line = json.loads((mappings / "pytorch_to_imagenet_2012_id.json").read_bytes())
    lines = (mappings / "imagenet_to_label_2012_v2").read_text().splitlines()

    assert sorted(lines) == sorted(CLASS_NAMES)
    assert [lines[to_line[str(index)]] for index in range(10)] == list(CLASS_NAMES)
    assert [to_line[str(index)] for index in range(10)] != list(range(10))
    assert set(to_label) == folders_in(tree / OBJECTNET_IMAGES)
    assert set(to_names) < set(to_label.values())
    index_of_name = {lines[line]: int(index) for index, line in to_line.items()}
    found = {
        label: tuple(CLASS_IDS[index_of_name[name]] for name in names.split("; "))
        for label, names in to_names.items()
    }
    assert found == LABEL_TO_CLASSES
    assert max(len(classes) for classes in found.values()) > 1


def test_folders_outside_the_label_space_hold_images(tree: Path) -> None:
    outside = {folder for folder, label in FOLDER_TO_LABEL.items() if label not in LABEL_TO_CLASSES}
    assert outside == set(SYMBOL_FOLDERS)
    assert len(outside) >= 2
    for folder in outside:
        assert files_under(tree / OBJECTNET_IMAGES / folder)


def test_the_border_of_objectnet_images_is_red(tree: Path) -> None:
    for path in files_under(tree / OBJECTNET_IMAGES):
        picture = pixels(path)
        outside = np.ones(picture.shape[:2], dtype=bool)
        outside[BORDER:-BORDER, BORDER:-BORDER] = False
        assert (picture[outside] == (255, 0, 0)).all(), path
        assert not (picture[~outside] == (255, 0, 0)).all(axis=-1).any(), path


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruptions_move_farther_from_the_clean_image_as_severity_grows(
    tree: Path, name: str
) -> None:
    clean = {path.stem: path for path in files_under(tree / "val")}
    distances = []
    for severity in SEVERITIES:
        corrupted = files_under(tree / "digits-c" / name / str(severity))
        pairs = [(clean[path.stem], path) for path in corrupted]
        distances.append(np.mean([np.abs(pixels(a) - pixels(b)).mean() for a, b in pairs]))
    assert distances[0] > 1
    assert distances == sorted(distances)
    assert len(set(distances)) == len(SEVERITIES)


@pytest.mark.slow
def test_another_process_writes_the_same_bytes(tree: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from workers.digits.images import make_images; "
        "make_images(Path(sys.argv[1]))"
    )
    # Another hash seed and another number of threads: neither may show in the bytes.
    environment = os.environ | {"PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"}
    other = tmp_path / "other"
    subprocess.run(
        [sys.executable, "-c", program, str(other)], cwd=REPOSITORY, env=environment, check=True
    )
    assert digest(other) == digest(tree)


def test_drawing_leaves_the_global_generators_alone(tmp_path: Path) -> None:
    import torch

    from workers.digits.corruptions import corrupt

    numpy_before = np.random.get_state()[1].copy()  # type: ignore[index]
    torch_before = torch.get_rng_state()
    pictures = np.zeros((1, 32, 32, 3), dtype=np.uint8)
    for name in CORRUPTIONS:
        corrupt(name, pictures, [0], 5)
    assert (np.random.get_state()[1] == numpy_before).all()  # type: ignore[index]
    assert torch.equal(torch.get_rng_state(), torch_before)


def test_importing_the_package_does_not_import_torch() -> None:
    program = "import sys, workers.digits.images; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=True)
