"""The ObjectNet-like set: things off-centre on clutter in a red border, and the mapping files."""

import json
from pathlib import Path

import numpy as np

from workers.digits.ink import SIZE, Ink, Picture, moved, quantised, smooth_noise
from workers.digits.names import CLASS_IDS, CLASS_NAMES, FOLDER_TO_LABEL, LABEL_TO_CLASSES

BORDER = 2
"""Width in px of the border that a loader has to crop, as ObjectNet's."""

RED = (255, 0, 0)

SYMBOL_FOLDERS: tuple[str, ...] = ("cross", "plus_sign")
"""Folders of things that are no digits: their labels are in no class of the label space."""

# Line numbers by class index. ObjectNet's files count classes in another order than PyTorch does.
_LINE_OF_CLASS = (7, 2, 9, 0, 4, 8, 1, 5, 3, 6)


def folder_of_class(class_id: str) -> str:
    """Return the folder that shows a class.

    Raises:
        LookupError: no folder does.
    """
    for folder, label in FOLDER_TO_LABEL.items():
        if class_id in LABEL_TO_CLASSES.get(label, ()):
            return folder
    raise LookupError(f"no ObjectNet folder shows class {class_id!r}")


def symbol(folder: str) -> Ink:
    """Return what one of `SYMBOL_FOLDERS` shows: a plus sign, or a cross (the same on its side)."""
    ink = np.zeros((SIZE, SIZE), dtype=np.float32)
    ink[14:18, 6:26] = 1
    ink[6:26, 14:18] = 1
    return moved(ink, degrees=45) if folder == "cross" else ink


def scene(ink: Ink, rng: np.random.Generator) -> Picture:
    """Draw the ink off-centre on clutter, inside the border: shape (36, 36, 3)."""
    direction = rng.uniform(0, 2 * np.pi)
    distance = rng.uniform(3, 5)
    thing = moved(
        ink,
        degrees=rng.uniform(-15, 15),
        scale=rng.uniform(0.7, 0.95),
        shift=(distance * np.cos(direction), distance * np.sin(direction)),
    )
    ground = _clutter(rng)
    pen = rng.uniform(0.8, 1.0, 3)
    inside = quantised(ground + thing[..., None] * (pen - ground))
    picture = np.full((SIZE + 2 * BORDER, SIZE + 2 * BORDER, 3), RED, dtype=np.uint8)
    picture[BORDER:-BORDER, BORDER:-BORDER] = inside
    return picture


def write_mappings(folder: Path) -> None:
    """Write ObjectNet's four mapping files into `folder`, which exists."""
    overlapping = {
        label: "; ".join(CLASS_NAMES[CLASS_IDS.index(class_id)] for class_id in classes)
        for label, classes in LABEL_TO_CLASSES.items()
    }
    lines = sorted(zip(_LINE_OF_CLASS, CLASS_NAMES, strict=True))
    _write_json(folder / "folder_to_objectnet_label.json", FOLDER_TO_LABEL)
    _write_json(folder / "objectnet_to_imagenet_1k.json", overlapping)
    _write_json(
        folder / "pytorch_to_imagenet_2012_id.json",
        {str(index): line for index, line in enumerate(_LINE_OF_CLASS)},
    )
    names = "".join(f"{name}\n" for _, name in lines)
    (folder / "imagenet_to_label_2012_v2").write_bytes(names.encode())


def _clutter(rng: np.random.Generator) -> np.ndarray:
    """Return a dim ground of patches and bars, shape (32, 32, 3), values in 0..1."""
    tint = rng.uniform(0.5, 1.0, 3)
    ground = 0.35 * smooth_noise(rng, 4)[..., None] * tint
    rows, columns = np.indices((SIZE, SIZE))
    for _ in range(int(rng.integers(3, 6))):
        angle, offset = rng.uniform(0, np.pi), rng.uniform(-SIZE / 2, SIZE / 2)
        away = (rows - SIZE / 2) * np.sin(angle) + (columns - SIZE / 2) * np.cos(angle) - offset
        ground[np.abs(away) < rng.uniform(0.6, 1.4)] = rng.uniform(0.1, 0.5, 3)
    return ground


def _write_json(path: Path, content: object) -> None:
    path.write_bytes((json.dumps(content, indent=1) + "\n").encode())
