"""Digits as ink: the shared ground of every drawing.

An `Ink` is a float32 array of shape (32, 32), 0.0 for bare ground and 1.0 for full ink; a
`Picture` is a uint8 array of shape (32, 32, 3), RGB.
"""

import zlib

import numpy as np
import numpy.typing as npt
from PIL import Image

from workers.digits.splits import source

SIZE = 32
_SOURCE_MAX = 16.0

Ink = npt.NDArray[np.float32]
Picture = npt.NDArray[np.uint8]
Colour = tuple[float, float, float]


def generator(purpose: str, index: int) -> np.random.Generator:
    """Return the random generator of one drawing of one digit: the same on every call."""
    return np.random.default_rng([zlib.crc32(purpose.encode()), index])


def ink_of(index: int) -> Ink:
    """Return scikit-learn's digit `index`, upscaled smoothly (bicubic)."""
    small = Image.fromarray((source()[0][index] / _SOURCE_MAX).astype(np.float32))
    return _clipped(small.resize((SIZE, SIZE), Image.Resampling.BICUBIC))


def moved(
    ink: Ink, *, degrees: float = 0.0, scale: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)
) -> Ink:
    """Turn (counter-clockwise) and scale the ink about its centre, then shift it by (x, y) px."""
    angle = np.deg2rad(degrees)
    cos, sin = float(np.cos(angle)) / scale, float(np.sin(angle)) / scale
    # Pillow asks for the map from where a pixel goes to where it comes from.
    centre = SIZE / 2
    x0, y0 = centre + shift[0], centre + shift[1]
    inverse = (cos, -sin, centre - cos * x0 + sin * y0, sin, cos, centre - sin * x0 - cos * y0)
    picture = Image.fromarray(ink).transform(
        (SIZE, SIZE), Image.Transform.AFFINE, inverse, Image.Resampling.BICUBIC
    )
    return _clipped(picture)


def smooth_noise(rng: np.random.Generator, cells: int) -> Ink:
    """Return noise in 0..1 that varies over `cells` cells across and down."""
    coarse = Image.fromarray(rng.random((cells, cells), dtype=np.float32))
    return _clipped(coarse.resize((SIZE, SIZE), Image.Resampling.BICUBIC))


def grey(ink: Ink) -> Picture:
    """Return white ink on black."""
    return coloured(ink, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def coloured(ink: Ink, ground: Colour, pen: Colour) -> Picture:
    """Return the ink in the pen's colour on the ground's; colours are RGB in 0..1."""
    amount = ink[..., None]
    return quantised((1 - amount) * np.array(ground) + amount * np.array(pen))


def quantised(picture: npt.NDArray[np.floating]) -> Picture:
    """Round values in 0..1 (clipped) to the 256 levels of a file."""
    levels: Picture = np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    return levels


def _clipped(picture: Image.Image) -> Ink:
    """Return a Pillow "F" picture as ink; bicubic interpolation overshoots."""
    return np.clip(np.asarray(picture, dtype=np.float32), 0, 1)
