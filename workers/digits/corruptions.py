"""The corruptions of `digits-c`: eight kinds, five severities each.

A corruption takes a batch of pictures, uint8 of shape (n, 32, 32, 3), the digits' indices, and a
severity 1..5, and returns a batch of the same shape and kind. What is random is drawn per
digit and corruption, the same for every severity, so that severities differ in strength alone.
"""

from collections.abc import Callable, Sequence
from io import BytesIO

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from scipy import ndimage
from torchvision.transforms.v2 import functional as tv  # type: ignore[import-untyped]

from workers.digits.ink import SIZE, generator, quantised, smooth_noise

Batch = npt.NDArray[np.uint8]
Corruption = Callable[[Batch, Sequence[int], int], Batch]

# Strength by severity, 1 to 5. Lengths are in px, noise and fog in units of full ink.
_CONTRAST = (0.85, 0.7, 0.55, 0.45, 0.35)
_BLUR_SIGMA = (1.5, 2.1, 2.6, 3.1, 3.6)
_ELASTIC_PX = (1.2, 1.8, 2.5, 3.2, 4.0)
_FOG = (0.4, 0.6, 0.8, 1.0, 1.3)
_NOISE_SIGMA = (0.15, 0.25, 0.35, 0.5, 0.65)
_IMPULSE_SHARE = (0.05, 0.1, 0.18, 0.27, 0.38)
_JPEG_QUALITY = (15, 8, 4, 2, 1)
_PIXELS = (10, 8, 7, 6, 5)


def corrupt(name: str, pictures: Batch, indices: Sequence[int], severity: int) -> Batch:
    """Apply one of `names.CORRUPTIONS`.

    Raises:
        KeyError: `name` is none of them.
    """
    return _CORRUPTIONS[name](pictures, indices, severity)


def _contrast(pictures: Batch, _indices: Sequence[int], severity: int) -> Batch:
    return _array(tv.adjust_contrast(_tensor(pictures), _CONTRAST[severity - 1]))


def _defocus_blur(pictures: Batch, _indices: Sequence[int], severity: int) -> Batch:
    sigma = _BLUR_SIGMA[severity - 1]
    return _array(tv.gaussian_blur(_tensor(pictures), kernel_size=[25, 25], sigma=[sigma, sigma]))


def _elastic_transform(pictures: Batch, indices: Sequence[int], severity: int) -> Batch:
    warped = [
        tv.elastic(image, _displacement(index) * (_ELASTIC_PX[severity - 1] * 2 / SIZE))
        for image, index in zip(_tensor(pictures), indices, strict=True)
    ]
    return _array(torch.stack(warped))


def _fog(pictures: Batch, indices: Sequence[int], severity: int) -> Batch:
    strength = _FOG[severity - 1]
    fog = np.stack([_fog_bank(index) for index in indices])[..., None]
    # Divided so that white stays white: fog lifts the dark and flattens the rest.
    return quantised((pictures / 255 + strength * fog) / (1 + strength))


def _gaussian_noise(pictures: Batch, indices: Sequence[int], severity: int) -> Batch:
    shape = pictures.shape[1:]
    noise = [generator("gaussian_noise", index).standard_normal(shape) for index in indices]
    return quantised(pictures / 255 + _NOISE_SIGMA[severity - 1] * np.stack(noise))


def _impulse_noise(pictures: Batch, indices: Sequence[int], severity: int) -> Batch:
    draws = np.stack(
        [generator("impulse_noise", index).random(pictures.shape[1:]) for index in indices]
    )
    half = _IMPULSE_SHARE[severity - 1] / 2
    salted = np.where(draws > 1 - half, 255, pictures)
    return np.where(draws < half, 0, salted).astype(np.uint8)


def _jpeg_compression(pictures: Batch, _indices: Sequence[int], severity: int) -> Batch:
    quality = _JPEG_QUALITY[severity - 1]
    return np.stack([_through_jpeg(picture, quality) for picture in pictures])


def _pixelate(pictures: Batch, _indices: Sequence[int], severity: int) -> Batch:
    side = _PIXELS[severity - 1]
    return np.stack(
        [
            np.asarray(
                Image.fromarray(picture)
                .resize((side, side), Image.Resampling.BOX)
                .resize((SIZE, SIZE), Image.Resampling.NEAREST)
            )
            for picture in pictures
        ]
    )


_CORRUPTIONS: dict[str, Corruption] = {
    "contrast": _contrast,
    "defocus_blur": _defocus_blur,
    "elastic_transform": _elastic_transform,
    "fog": _fog,
    "gaussian_noise": _gaussian_noise,
    "impulse_noise": _impulse_noise,
    "jpeg_compression": _jpeg_compression,
    "pixelate": _pixelate,
}


def _tensor(pictures: Batch) -> torch.Tensor:
    return torch.from_numpy(pictures.transpose(0, 3, 1, 2).copy())


def _array(pictures: torch.Tensor) -> Batch:
    return pictures.numpy().transpose(0, 2, 3, 1)


def _displacement(index: int) -> torch.Tensor:
    """Return a smooth random field, shape (1, 32, 32, 2), whose root mean square is 1."""
    raw = generator("elastic_transform", index).standard_normal((2, SIZE, SIZE))
    smooth = ndimage.gaussian_filter(raw, sigma=(0, 4, 4))
    smooth /= np.sqrt((smooth**2).mean())
    return torch.from_numpy(smooth.transpose(1, 2, 0)[None].astype(np.float32))


def _fog_bank(index: int) -> npt.NDArray[np.floating]:
    """Return clouds in 0..1, shape (32, 32): three octaves of smooth noise."""
    rng = generator("fog", index)
    return (4 * smooth_noise(rng, 3) + 2 * smooth_noise(rng, 6) + smooth_noise(rng, 12)) / 7


def _through_jpeg(picture: npt.NDArray[np.uint8], quality: int) -> npt.NDArray[np.uint8]:
    file = BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))
