"""Writes the tree of the embedded suite `digits-rib`.

```
train/d{0..9}/digit_0123.png                                   ID train
val/d{0..9}/digit_0123.JPEG                                    ID val
digitsv2-matched-frequency-format-val/{0..9}/digit_0123.jpeg   like ImageNet-V2
digits-a/d*/digit_0123.jpg                                     like ImageNet-A (A_CLASSES)
digits-r/d*/digit_0123_inverted.jpg                            like ImageNet-R (R_CLASSES)
sketch/d{0..9}/digit_0123.JPEG                                 like ImageNet-Sketch
objectnet-1.0/images/<folder>/digit_0123.png, mappings/        like ObjectNet
digits-cartoon/d{0..9}/digit_0123.jpg                          from ID val, like ImageNet-Cartoon
digits-drawing/d{0..9}/digit_0123.jpg                          from ID val, like ImageNet-Drawing
digits-c/<corruption>/{1..5}/d{0..9}/digit_0123.JPEG           from half of ID val, like ImageNet-C
```

The number in a file's name is its digit's index in scikit-learn's set: no digit of ID train is in
any other set, and the sets made from ID val are the only ones that share digits.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from workers.digits import strokes
from workers.digits.clutter import (
    SYMBOL_FOLDERS,
    folder_of_class,
    scene,
    symbol,
    write_mappings,
)
from workers.digits.ink import Picture, generator, grey, ink_of
from workers.digits.names import CLASS_IDS, CORRUPTIONS, RENDITIONS, SEVERITIES
from workers.digits.splits import Splits, make_splits, source

_JPEG_QUALITY = 95
_IMAGES_PER_SYMBOL = 12


def make_images(root: Path) -> None:
    """Write the whole tree below `root`, the same bytes each time (about 6,000 files).

    `root` is made if need be. Files go straight to their places: a caller that wants all or nothing
    writes into a sibling folder and renames it.

    Raises:
        OSError: a folder or file cannot be written.
    """
    splits = make_splits()
    _write_id(root, splits)
    _write_held_out(root, splits)
    _write_objectnet(root / "objectnet-1.0", splits.objectnet)
    _write_styled_val(root, splits.val)
    _write_corrupted_val(root / "digits-c", splits.c)


def _write_id(root: Path, splits: Splits) -> None:
    for index in splits.train:
        _save(grey(ink_of(index)), root / "train" / _class_id(index) / f"{_stem(index)}.png")
    for index in splits.val:
        _save(grey(ink_of(index)), root / "val" / _class_id(index) / f"{_stem(index)}.JPEG")


def _write_held_out(root: Path, splits: Splits) -> None:
    v2 = root / "digitsv2-matched-frequency-format-val"
    for index in splits.v2:
        picture = strokes.recollected(ink_of(index), generator("v2", index))
        _save(picture, v2 / str(_label(index)) / f"{_stem(index)}.jpeg")
    for index in splits.a:
        picture = strokes.badly_seen(ink_of(index), generator("a", index))
        _save(picture, root / "digits-a" / _class_id(index) / f"{_stem(index)}.jpg")
    for index in splits.r:
        for style in RENDITIONS:
            picture = strokes.rendition(ink_of(index), style, generator(style, index))
            name = f"{_stem(index)}_{style}.jpg"
            _save(picture, root / "digits-r" / _class_id(index) / name)
    for index in splits.sketch:
        picture = strokes.sketch(ink_of(index))
        _save(picture, root / "sketch" / _class_id(index) / f"{_stem(index)}.JPEG")


def _write_objectnet(root: Path, indices: Sequence[int]) -> None:
    for index in indices:
        picture = scene(ink_of(index), generator("objectnet", index))
        folder = root / "images" / folder_of_class(_class_id(index))
        _save(picture, folder / f"{_stem(index)}.png")
    for folder_name in SYMBOL_FOLDERS:
        for number in range(_IMAGES_PER_SYMBOL):
            picture = scene(symbol(folder_name), generator(folder_name, number))
            _save(picture, root / "images" / folder_name / f"{folder_name}_{number:02d}.png")
    (root / "mappings").mkdir(parents=True, exist_ok=True)
    write_mappings(root / "mappings")


def _write_styled_val(root: Path, indices: Sequence[int]) -> None:
    for index in indices:
        place = Path(_class_id(index)) / f"{_stem(index)}.jpg"
        ink = ink_of(index)
        cartoon = strokes.cartoon(ink, generator("cartoon", index))
        _save(cartoon, root / "digits-cartoon" / place)
        drawing = strokes.drawing(ink, generator("drawing", index))
        _save(drawing, root / "digits-drawing" / place)


def _write_corrupted_val(root: Path, indices: Sequence[int]) -> None:
    # Imported here because it imports torch, which takes seconds.
    from workers.digits.corruptions import corrupt

    clean = np.stack([grey(ink_of(index)) for index in indices])
    for name in CORRUPTIONS:
        for severity in SEVERITIES:
            corrupted = corrupt(name, clean, indices, severity)
            for index, picture in zip(indices, corrupted, strict=True):
                folder = root / name / str(severity) / _class_id(index)
                _save(picture, folder / f"{_stem(index)}.JPEG")


def _label(index: int) -> int:
    return int(source()[1][index])


def _class_id(index: int) -> str:
    return CLASS_IDS[_label(index)]


def _stem(index: int) -> str:
    return f"digit_{index:04d}"


def _save(picture: Picture, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        Image.fromarray(picture).save(path, "PNG")
    else:
        Image.fromarray(picture).save(path, "JPEG", quality=_JPEG_QUALITY)
