"""Miniature archives of ImageNet-RIB's data sets, in the layouts that the real ones unpack to.

Every class has one image of 16 x 16 pixels. Its left half codes the class that `ReadingModel`
predicts, its right half the one that it would predict next: so what a model gets right is known
image by image. Equal images are hard links to one file.

`Archives(root).all()` unpacks all nine sets; `miniature()` is the suite with counts to match.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch import nn

from workers.datasets import Dataset, read_dataset
from workers.errors import DataError
from workers.images import Transform
from workers.suites import Suite, suites

SUITE = suites()["imagenet-rib"]
SPACE = SUITE.space
PUBLISHED_COUNTS = {
    "imagenet-1k": 50_000,
    "imagenet-v2": 10_000,
    "imagenet-a": 7_500,
    "imagenet-r": 30_000,
    "imagenet-sketch": 50_889,
    "objectnet": 18_574,
    "imagenet-cartoon": 50_000,
    "imagenet-drawing": 50_000,
    "imagenet-c": 15 * 5 * 50_000,
}
"""How many images each set has, by the papers that published them."""

BORDER = 2
RED = (255, 0, 0)
SIZE = 16

TRANSFORM = Transform((3, SIZE, SIZE), 1.0, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
"""Leaves the images as they are."""

Guess = tuple[int, int]
"""The label indices that the model predicts first and second."""


def truth(right: Sequence[int]) -> Guess:
    """The model is right: it predicts the (last) index of the image's class."""
    return right[-1], (right[-1] + 1) % len(SPACE)


# ---------------------------------------------------------------------------- images and model


def picture(guess: Guess, border: int = 0) -> Image.Image:
    """Draw a guess: an index is three digits, a digit is a shade of red, green or blue."""
    pixels = np.empty((SIZE, SIZE, 3), dtype=np.uint8)
    pixels[:, : SIZE // 2], pixels[:, SIZE // 2 :] = (_colour(index) for index in guess)
    whole = np.full((SIZE + 2 * border, SIZE + 2 * border, 3), RED, dtype=np.uint8)
    whole[border : border + SIZE, border : border + SIZE] = pixels
    return Image.fromarray(whole)


def _colour(index: int) -> list[int]:
    return [25 * int(digit) + 10 for digit in f"{index:03d}"]


class ReadingModel(nn.Module):
    """Reads off an image what to predict: logit 2 for its first guess, 1 for its second."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images in 0..1, [B, 3, 16, 16], to logits [B, 1000]."""
        logits = torch.zeros(len(images), len(SPACE))
        for column, logit in ((3 * SIZE // 4, 1.0), (SIZE // 4, 2.0)):
            shades = images[:, :, SIZE // 2, column] * 255
            digits = ((shades - 10) / 25).round().long()
            indices = (digits * torch.tensor([100, 10, 1])).sum(dim=1)
            logits[torch.arange(len(images)), indices] = logit
        return logits


# ---------------------------------------------------------------------------- archives


@dataclass
class Archives:
    """Unpacks miniature archives below a data root; `guess` says what the model makes of them."""

    root: Path
    guess: Callable[[Sequence[int]], Guess] = truth
    _pool: dict[tuple[Guess, str], Path] = field(default_factory=dict)

    def all(self) -> None:
        """Unpack every set under the name that its archive gives it."""
        for unpack in (
            self.val,
            self.v2,
            self.a,
            self.r,
            self.sketch,
            self.objectnet,
            self.cartoon,
            self.drawing,
            self.c,
        ):
            unpack()

    def val(self, place: str = "imagenet/val") -> Path:
        return self._class_folders(place, SPACE.ids, "ILSVRC2012_val_{:08d}.JPEG")

    def v2(self, place: str = "imagenetv2-matched-frequency-format-val") -> Path:
        """Folders 0 to 999: sorted as text, 10 comes before 2."""
        for index in range(len(SPACE)):
            self.put(self.root / place / str(index) / f"{index:040x}.jpeg", [index])
        return self.root / place

    def a(self, place: str = "imagenet-a") -> Path:
        ids = subset("imagenet-a")
        folder = self._class_folders(place, ids, "0.000{}_fox squirrel _ fox squirrel_0.9.jpg")
        (folder / "README.txt").write_text("about this set\n")
        return folder

    def r(self, place: str = "imagenet-r") -> Path:
        folder = self._class_folders(place, subset("imagenet-r"), "art_{}.jpg")
        (folder / "README.txt").write_text("about this set\n")
        return folder

    def sketch(self, place: str = "sketch") -> Path:
        return self._class_folders(place, SPACE.ids, "sketch_{}.JPEG")

    def cartoon(self, place: str = "imagenet-cartoon") -> Path:
        return self._class_folders(place, SPACE.ids, "ILSVRC2012_val_{:08d}.JPEG")

    def drawing(self, place: str = "imagenet-drawing") -> Path:
        return self._class_folders(place, SPACE.ids, "ILSVRC2012_val_{:08d}.JPEG")

    def c(self, place: str = "imagenet-c", groups: bool = False) -> Path:
        """All 75 folders, each with every class; in `blur/`, `noise/`, ... if there are groups.

        A severity's folder is a link to one copy of 1000 class folders, which is made and deleted
        in no time; `split` makes a real one of it.
        """
        name = "ILSVRC2012_val_{:08d}.JPEG"
        classes = self._class_folders(f".classes-of-{Path(place).name}", SPACE.ids, name)
        for corruption, severity in SUITE.dataset("imagenet-c").splits:
            group = GROUP_OF[str(corruption)] if groups else ""
            split = self.root / place / group / str(corruption) / str(severity)
            split.parent.mkdir(parents=True, exist_ok=True)
            split.symlink_to(classes)
        return self.root / place

    def split(self, corruption: str, severity: int, place: str = "imagenet-c") -> Path:
        """Unpack one split of C anew, by this archive's guesses."""
        split = Path(place, corruption, str(severity))
        (self.root / split).unlink()
        return self._class_folders(str(split), SPACE.ids, "ILSVRC2012_val_{:08d}.JPEG")

    def objectnet(self, place: str = "objectnet-1.0") -> Path:
        """Its 113 classes in the label space and three that are not, with a red border."""
        folder = self.root / place
        for name, label in FOLDER_TO_LABEL.items():
            right = objectnet_indices(label) or [0]
            self.put(folder / "images" / name / f"{name}.png", right)
        write_mappings(folder / "mappings")
        return folder

    def put(self, path: Path, right: Sequence[int]) -> None:
        """Put an image of a class with some indices; a name that ends in .png is ObjectNet's."""
        path.parent.mkdir(parents=True, exist_ok=True)
        key = (self.guess(right), path.suffix.lower())
        if key not in self._pool:
            if key[1] == ".png":
                picture(key[0], BORDER).save(path)
            else:
                picture(key[0]).save(path, "JPEG", quality=95, subsampling=0)
            self._pool[key] = path
        else:
            os.link(self._pool[key], path)

    def _class_folders(self, place: str, ids: Iterable[str], name: str) -> Path:
        for class_id in ids:
            index = SPACE.index[class_id]
            self.put(self.root / place / class_id / name.format(index), [index])
        return self.root / place


def subset(name: str) -> tuple[str, ...]:
    """Return the class ids of a set that has a subset."""
    classes = SUITE.dataset(name).classes
    assert classes is not None
    return classes


def miniature(n_images: int | None = None) -> Suite:
    """Return the suite with the number of images that the miniature archives have: one per class.

    `n_images` takes the place of it for every set but those with several splits.
    """

    def small(name: str) -> int:
        spec = SUITE.dataset(name)
        n_classes = spec.n_classes or len(spec.classes or SPACE.ids)
        return (n_images or n_classes) * len(spec.splits)

    return replace(
        SUITE,
        id=replace(SUITE.id, n_images=small(SUITE.id.name)),
        ood=tuple(replace(spec, n_images=small(spec.name)) for spec in SUITE.ood),
    )


def read(root: Path, name: str) -> Dataset:
    """Read a set of the miniature archives below a root."""
    suite = miniature()
    return read_dataset(suite, suite.dataset(name), root)


def problems(root: Path, name: str) -> list[str]:
    """Return what is wrong with a set that cannot be read."""
    with pytest.raises(DataError) as caught:
        read(root, name)
    return [str(problem) for problem in caught.value.problems]


GROUP_OF = {
    **dict.fromkeys(("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"), "blur"),
    **dict.fromkeys(("contrast", "elastic_transform", "jpeg_compression", "pixelate"), "digital"),
    **dict.fromkeys(("gaussian_noise", "impulse_noise", "shot_noise"), "noise"),
    **dict.fromkeys(("brightness", "fog", "frost", "snow"), "weather"),
}
"""The archive that each of ImageNet-C's corruptions comes in."""

# ---------------------------------------------------------------------------- objectnet's mapping

SEVERAL: dict[str, str] = {
    "Alarm clock": "analog clock; digital clock",
    "Bicycle": "mountain bike, all-terrain bike, off-roader; "
    "bicycle-built-for-two, tandem bicycle, tandem",
    "Chair": "barber chair; folding chair; rocking chair, rocker",
    "Helmet": "football helmet; crash helmet",
    "Pen": "ballpoint, ballpoint pen, ballpen, Biro; quill, quill pen; fountain pen",
    "Skirt": "hoopskirt, crinoline; miniskirt, mini; overskirt",
    "Still Camera": "Polaroid camera, Polaroid Land camera; reflex camera",
    "Tie": "bow tie, bow-tie, bowtie; Windsor tie",
    "Wheel": "car wheel; paddlewheel, paddle wheel",
}
"""The nine labels of ObjectNet that stand for several classes of ImageNet: 21 in all."""

MISTAKEN: dict[str, str] = {
    "Binder (closed)": "binder, ring-binder",
    "Iron (for clothes)": "iron, smoothing iron",
    "Jeans": "jean, blue jean, denim",
    "Swimming trunks": "swimming trunks, bathing trunks",
    "Trash bin": "ashcan, trash can, garbage can, wastebin, ash bin, ash-bin, ashbin, dustbin, "
    "trash barrel, trash bin",
    "Weight scale": "scale, weighing machine",
}
"""Labels that, beside Chair and Skirt, the paper's own code has on wrong indices."""

OUTSIDE = ("Air freshener", "Coaster", "Tape / duct tape")
"""Labels that are no class of ImageNet, as 200 of ObjectNet's are not."""


def _others(n: int) -> dict[str, str]:
    """Make up the rest of the labels, one class each: like ObjectNet's, not the same."""
    taken = {name for text in (SEVERAL | MISTAKEN).values() for name in text.split("; ")}
    free = [name for name in SPACE.names[400:] if name not in taken and name != "crane"]
    chosen = free[:: len(free) // n][:n]
    return {name.split(",")[0].capitalize(): name for name in chosen}


LABEL_TO_NAMES: dict[str, str] = SEVERAL | MISTAKEN
LABEL_TO_NAMES |= _others(113 - len(LABEL_TO_NAMES))
"""113 labels in the archive's format: names of classes, with semicolons between them."""


def folder_of(label: str) -> str:
    """Return the folder of an ObjectNet label: `Binder (closed)` is in `binder_closed`."""
    return re.sub(r"[^a-z0-9-]+", "_", label.lower()).strip("_")


FOLDER_TO_LABEL = {folder_of(label): label for label in (*OUTSIDE, *LABEL_TO_NAMES)}


def objectnet_indices(label: str) -> list[int]:
    """Return the label indices of an ObjectNet label, ascending, by the words of the classes."""
    names = LABEL_TO_NAMES.get(label)
    return [] if names is None else sorted(SPACE.names.index(name) for name in names.split("; "))


def write_mappings(folder: Path) -> None:
    """Write the archive's four mapping files. Its list of names has another order than logits."""
    folder.mkdir(parents=True, exist_ok=True)
    n = len(SPACE)
    line_of_index = {index: (377 * index + 355) % n for index in range(n)}
    index_of_line = {line: index for index, line in line_of_index.items()}
    names = "".join(f"{SPACE.names[index_of_line[line]]}\n" for line in range(n))
    (folder / "imagenet_to_label_2012_v2").write_text(names)
    for name, value in (
        ("folder_to_objectnet_label", FOLDER_TO_LABEL),
        ("objectnet_to_imagenet_1k", LABEL_TO_NAMES),
        ("pytorch_to_imagenet_2012_id", {str(k): line for k, line in line_of_index.items()}),
    ):
        (folder / f"{name}.json").write_text(json.dumps(value, indent=2) + "\n")


# ---------------------------------------------------------------------------- odd images


def photo(height: int = 50, width: int = 70, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Return a picture with smooth shades, edges and noise: uint8 [height, width, 3]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    shades = np.stack([x * 255 / width, y * 255 / height, (x + y) % 40 * 6], axis=-1)
    noise = rng.normal(0, 20, shades.shape)
    return np.clip(shades + noise, 0, 255).astype(np.uint8)


def _saved(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def _rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: turn it by 90 degrees
    return _saved(Image.fromarray(photo()), "JPEG", exif=exif)


def _png_header(width: int, height: int) -> bytes:
    """Return a PNG that says it is large; its pixels are missing."""
    small = _saved(Image.new("1", (1, 1)), "PNG")
    header = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + small[24:29]
    from zlib import crc32

    return small[:12] + header + crc32(header).to_bytes(4, "big") + small[33:]


def _odd() -> dict[str, bytes]:
    rgb = Image.fromarray(photo())
    gray16 = (photo()[..., 0].astype(np.uint16) << 8) | 0x5A
    alpha = Image.fromarray(np.arange(50 * 70, dtype=np.uint8).reshape(50, 70))
    palette = rgb.quantize(16)
    return {
        "cmyk.JPEG": _saved(rgb.convert("CMYK"), "JPEG"),
        "grayscale.JPEG": _saved(rgb.convert("L"), "JPEG"),
        "rotated.JPEG": _rotated(),
        "png.JPEG": _saved(rgb, "PNG"),
        "palette.png": _saved(palette, "PNG"),
        "palette_transparent.png": _saved(palette, "PNG", transparency=bytes(range(0, 240, 15))),
        "alpha.png": _saved(Image.merge("RGBA", [*rgb.split(), alpha]), "PNG"),
        "gray_alpha.png": _saved(Image.merge("LA", [rgb.convert("L"), alpha]), "PNG"),
        "gray16.png": _saved(Image.fromarray(gray16), "PNG"),
        "one_bit.png": _saved(rgb.convert("1"), "PNG"),
    }


ODD = _odd()
"""File name -> contents of odd images that decode, all of them of `photo()`."""

BROKEN = {
    "truncated.JPEG": ODD["rotated.JPEG"][:-200],
    "truncated.png": ODD["alpha.png"][:-200],
    "page.jpg": b"<html>404</html>",
    "empty.JPEG": b"",
    "bomb_of_the_warning_range.png": _png_header(10_000, 9_000),
    "bomb.png": _png_header(50_000, 50_000),
}
"""File name -> contents of files that have to be refused."""
