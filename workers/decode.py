"""Decoding image files: RGB always, and an error that names the file rather than a substitute.

What pixels come out is what PIL's `convert("RGB")` gives, as in the loaders of timm and torchvision
that the published numbers were made with:

- the file's content decides its format, not its name: ImageNet has a PNG that is named .JPEG;
- CMYK is converted without a colour profile; an EXIF orientation is not applied;
- transparency is dropped: a pixel keeps the colour that is stored for it, and is not blended with
  any background;
- 16-bit colour is reduced to its high byte.

16-bit grayscale is the one exception: PIL clips it, so that nearly all of it becomes white; here it
is reduced to its high byte like 16-bit colour.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from workers.errors import DataError, Problem

MAX_PIXELS = 1024 * 1024 * 1024 // 4 // 3
"""More are refused: a small file can hold a picture that fills the memory. PIL warns above this
many and refuses twice as many, unless another library has changed its limit."""


def decode(path: Path, border: int = 0) -> Image.Image:
    """Decode an image to RGB without applying its EXIF rotation, and crop its border.

    Raises:
        DataError: naming the file, when it is missing, cut short, no image, too large to be one, or
            nothing but border.
    """
    try:
        with Image.open(path) as image:
            _check_size(image)
            picture = _to_rgb(image)
    except MemoryError:
        raise  # says something about this machine, not about the file
    except Exception as error:  # broken files make PIL raise nearly anything
        raise DataError([Problem(str(path), f"this image does not decode: {error}")]) from error
    return _without_border(picture, path, border) if border else picture


def _check_size(image: Image.Image) -> None:
    """Look at the size that the header states, before there is memory for it."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width} x {height} pixels, more than {MAX_PIXELS}")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        high_bytes = (np.asarray(image) >> 8).astype(np.uint8)
        return Image.fromarray(high_bytes).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode} have no known range")
    image.load()
    image.info.pop("transparency", None)  # PIL would warn that it is dropped
    return image.convert("RGB")


def _without_border(picture: Image.Image, path: Path, border: int) -> Image.Image:
    width, height = picture.size
    if min(width, height) <= 2 * border:
        message = f"this image of {width} x {height} is all border: {border} px a side"
        raise DataError([Problem(str(path), message)])
    return picture.crop((border, border, width - border, height - border))
