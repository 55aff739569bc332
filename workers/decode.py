"""Decoding image files: RGB always, and an error that names the file rather than a substitute."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, UnidentifiedImageError

from workers.errors import DataError, Problem


def decode(path: Path, border: int = 0) -> Image.Image:
    """Decode an image to RGB without applying its EXIF rotation, and crop its border.

    Raises:
        DataError: naming the file, when it is missing, cut short, no image, or nothing but border.
    """
    try:
        with Image.open(path) as image:
            picture = image.convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError) as error:
        raise DataError([Problem(str(path), f"this image does not decode: {error}")]) from error
    if border:
        width, height = picture.size
        if min(width, height) <= 2 * border:
            message = f"this image of {width} x {height} is all border: {border} px a side"
            raise DataError([Problem(str(path), message)])
        picture = picture.crop((border, border, width - border, height - border))
    return picture
