"""One digit, drawn as each data set shows it: fresh, hard, in renditions, sketched and so on.

Every function takes an `Ink` (and what it draws at random from, where it does) and returns a
`Picture`.
"""

import numpy as np
from scipy import ndimage

from workers.digits.ink import Ink, Picture, coloured, grey, moved, quantised, smooth_noise


def recollected(ink: Ink, rng: np.random.Generator) -> Picture:
    """Draw as if collected anew, with less care: moved, turned, scaled and fainter by a little."""
    ink = moved(
        ink,
        degrees=rng.uniform(-12, 12),
        scale=rng.uniform(0.8, 1.05),
        shift=(rng.uniform(-2, 2), rng.uniform(-2, 2)),
    )
    return grey(ink * np.float32(rng.uniform(0.65, 1.0)))


def badly_seen(ink: Ink, rng: np.random.Generator) -> Picture:
    """Draw as collected under harder conditions: thinned, out of focus and in poor light.

    The digits that a nearest-neighbour classifier finds hardest are not hard enough by themselves:
    drawn plainly, small networks pre-trained on ID train read 89 to 96% of them.
    """
    thin = ndimage.grey_erosion(ink, size=(2, 2))
    turned = moved(thin, degrees=rng.uniform(-20, 20), scale=rng.uniform(0.7, 0.95))
    blurred = ndimage.gaussian_filter(turned, sigma=1.3)
    light = 0.05 + 0.2 * smooth_noise(rng, 3)
    return grey(light + (np.float32(0.9) - light) * blurred)


def rendition(ink: Ink, style: str, rng: np.random.Generator) -> Picture:
    """Draw in one of `names.RENDITIONS`.

    Raises:
        KeyError: `style` is none of them.
    """
    return {
        "inverted": _inverted,
        "rotated": _rotated,
        "textured": _textured,
        "thick": _thick,
    }[style](ink, rng)


def sketch(ink: Ink) -> Picture:
    """Draw the contours, with what they enclose faintly shaded."""
    inside = ndimage.grey_erosion(ink, size=(3, 3))
    contours = np.clip(2.4 * (ink - inside), 0, 1)
    return grey(np.maximum(contours, np.float32(0.35) * ink))


def cartoon(ink: Ink, rng: np.random.Generator) -> Picture:
    """Draw in few flat colours with a dark outline."""
    ground, shade, light = _palette(rng)
    fill = ink > 0.35
    outline = ndimage.binary_dilation(fill) & ~fill
    picture = np.empty((*ink.shape, 3), dtype=np.float32)
    picture[:] = ground
    picture[fill] = shade
    picture[ink > 0.7] = light
    picture[outline] = 0.0
    return quantised(picture)


def drawing(ink: Ink, rng: np.random.Generator) -> Picture:
    """Draw as hatched with a white pencil on black paper."""
    rows, columns = np.indices(ink.shape)
    hatch = 0.65 + 0.35 * np.sin((rows + columns) * (2 * np.pi / 4) + rng.uniform(0, 2 * np.pi))
    blurred = ndimage.gaussian_filter(ink, sigma=2.0)
    contour = np.clip(np.abs(ink - blurred) * 2, 0, 1)
    pencil = np.maximum(contour, ink * hatch)
    return grey(pencil.astype(np.float32))


def _palette(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a dim ground, a mid shade and a bright colour, RGB in 0..1."""
    return rng.uniform(0.05, 0.27, 3), rng.uniform(0.45, 0.75, 3), rng.uniform(0.75, 1.0, 3)


def _inverted(ink: Ink, rng: np.random.Generator) -> Picture:
    paper = rng.uniform(0.8, 1.0)
    return coloured(ink, (paper, paper, paper), (0.0, 0.0, 0.0))


def _rotated(ink: Ink, rng: np.random.Generator) -> Picture:
    return grey(moved(ink, degrees=rng.choice([-1, 1]) * rng.uniform(25, 35)))


def _textured(ink: Ink, rng: np.random.Generator) -> Picture:
    rows, columns = np.indices(ink.shape)
    angle = rng.uniform(0, np.pi)
    stripes = np.sin((rows * np.sin(angle) + columns * np.cos(angle)) * (2 * np.pi / 5)) > 0
    pen = rng.uniform(0.4, 1.0, 3)
    picture = ink[..., None] * np.where(stripes[..., None], pen, pen[::-1] * 0.5)
    return quantised(picture)


def _thick(ink: Ink, rng: np.random.Generator) -> Picture:
    return grey(ndimage.grey_dilation(ink, size=(int(rng.integers(4, 6)),) * 2))
