"""From image files to batches of pixels: a model's transform, and the order of images.

Pixels stay uint8 until they reach the device: resizing and cropping happen on the decoded picture,
as in timm, and normalisation is the same arithmetic wherever it is done.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from timm.data.transforms_factory import create_transform
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from workers.cell import digest
from workers.datasets import Dataset, Split
from workers.decode import decode
from workers.errors import DataError
from workers.loader_processes import LoaderContext
from workers.logs import joining
from workers.pixel_cache import PixelCache, Slots

CACHE_BYTES = 1 << 30
"""Decoded pixels that a worker process keeps between cells."""


@dataclass(frozen=True)
class Transform:
    """A model's evaluation transform, which the benchmark also trains with."""

    input_size: tuple[int, int, int]
    """Channels, height, width."""
    crop_pct: float
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_mode: str = "center"
    """timm's: `center`, `squash` (both sides to size, nothing is cropped) or `border`."""

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Transform:
        """Take what timm's `resolve_data_config` returns."""
        return cls(
            tuple(config["input_size"]),
            float(config["crop_pct"]),
            str(config["interpolation"]),
            tuple(config["mean"]),
            tuple(config["std"]),
            str(config["crop_mode"]),
        )

    @property
    def digest(self) -> str:
        return digest(asdict(self))

    def pixels(self) -> Any:
        """Return timm's transform up to a uint8 tensor: resize, centre crop, no normalisation."""
        return create_transform(
            self.input_size,
            is_training=False,
            interpolation=self.interpolation,
            crop_pct=self.crop_pct,
            crop_mode=self.crop_mode,
            normalize=False,
        )

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """Map uint8 pixels [B, C, H, W] to (x / 255 - mean) / std in float32 on their device."""
        mean, std = (_channels(values, pixels.device) for values in (self.mean, self.std))
        return pixels.float().div_(255.0).sub_(mean).div_(std)


@lru_cache(maxsize=64)
def _channels(values: tuple[float, ...], device: torch.device) -> torch.Tensor:
    """Return a number for each channel, [1, C, 1, 1], and copy it to a device once."""
    with torch.inference_mode(False):  # training needs it, too
        return torch.tensor(values, device=device).view(1, -1, 1, 1)


@dataclass(frozen=True)
class Batch:
    """Some images: pixels uint8 [B, C, H, W], labels int64 [B], and their places in the source."""

    pixels: torch.Tensor
    labels: torch.Tensor
    indices: torch.Tensor


class Files(TorchDataset[torch.Tensor | DataError]):
    """The images of splits as uint8 tensors [C, H, W]; a DataError in place of a bad one."""

    def __init__(
        self,
        splits: Sequence[Split],
        border: int,
        transform: Transform,
        cache: PixelCache | None = None,
    ) -> None:
        self.splits, self.border, self.transform = splits, border, transform.pixels()
        self.starts = [0]
        for split in splits:
            self.starts.append(self.starts[-1] + len(split))
        self.slots = [_slots(cache, split, border, transform) for split in splits]

    def __len__(self) -> int:
        return self.starts[-1]

    def __getitem__(self, index: int) -> torch.Tensor | DataError:
        which, place = self._find(index)
        slots = self.slots[which]
        try:
            if slots is None:
                return self._pixels(index)
            path = self._path(which, place)
            return slots.get(place, path, lambda: self._pixels(index))
        except DataError as error:
            return error  # raised in a loader process, it would come back as another

    def _pixels(self, index: int) -> torch.Tensor:
        pixels: torch.Tensor = self.transform(self.picture(index))
        return pixels

    def picture(self, index: int) -> Image:
        """Decode one image.

        Raises:
            DataError: when it does not decode.
        """
        return decode(self._path(*self._find(index)), self.border)

    def _find(self, index: int) -> tuple[int, int]:
        """Return which split an image is of, and its place there."""
        which = bisect_right(self.starts, index) - 1
        if not 0 <= which < len(self.splits):
            raise IndexError(index)
        return which, index - self.starts[which]

    def _path(self, which: int, place: int) -> Path:
        split = self.splits[which]
        return split.folder / split.files[place]


def _slots(
    cache: PixelCache | None, split: Split, border: int, transform: Transform
) -> Slots | None:
    """Return where a cache has a split's images, as they come out of a transform."""
    if cache is None:
        return None
    pixels = replace(transform, mean=(), std=())  # they are not normalised yet
    made_of = {
        "folder": str(split.folder.resolve()),
        "files": digest(list(split.files), 32),
        "border": border,
        "transform": pixels.digest,
    }
    return cache.slots(made_of, transform.input_size, len(split))


class ImageSource:
    """The images of one or more splits, delivered in batches of any order.

    A source of up to CACHE_BYTES is kept in memory for the cells that this process runs next; a
    larger one is read as it is asked for, by `loader_workers` processes. With a `PixelCache` on
    disk, images are decoded only where it does not have them. `pinned` batches of a larger one lie
    in page-locked memory, from where a GPU reads them by itself.
    """

    def __init__(
        self,
        dataset: Dataset,
        transform: Transform,
        splits: Sequence[Split] | None = None,
        loader_workers: int = 0,
        cache: PixelCache | None = None,
        pinned: bool = False,
    ) -> None:
        chosen = dataset.splits if splits is None else tuple(splits)
        self.files = Files(chosen, dataset.border, transform, cache)
        self.labels = torch.tensor([label for split in chosen for label in split.labels])
        self.loader_workers, self.pinned = loader_workers, pinned
        channels, height, width = transform.input_size
        self.n_bytes = len(self.files) * channels * height * width
        self.key = (
            str(chosen[0].folder),
            digest([dataset.border, [[s.corruption, s.severity, hash(s.files)] for s in chosen]]),
            transform.digest,
        )

    def __len__(self) -> int:
        return len(self.files)

    def batches(self, order: torch.Tensor, batch_size: int) -> Iterator[Batch]:
        """Yield the images at the places that `order` (int64 [N]) names, in that order."""
        parts = batch_indices(order, batch_size)
        if self.n_bytes <= CACHE_BYTES:
            pixels = _CACHE.get(self)
            for part in parts:
                yield Batch(pixels[part], self.labels[part], part)
        else:
            images_of = load_in_parts(self.files, parts, self.loader_workers, self.pinned)
            for part, images in zip(parts, images_of, strict=True):
                yield Batch(images, self.labels[part], part)

    def decode_all(self) -> torch.Tensor:
        """Decode every image: uint8 [N, C, H, W]."""
        parts = batch_indices(torch.arange(len(self)), 256)
        return torch.cat(list(load_in_parts(self.files, parts, self.loader_workers)))


def load_in_parts(
    files: TorchDataset[torch.Tensor | DataError],
    parts: Iterable[torch.Tensor],
    loader_workers: int,
    pinned: bool = False,
) -> Iterator[torch.Tensor]:
    """Yield the images at each part's places: uint8 [B, C, H, W], `pinned` or not.

    Raises:
        DataError: with every image of a part that does not decode.
    """
    loader: Iterable[torch.Tensor | DataError] = DataLoader(
        files,
        batch_sampler=(part.tolist() for part in parts),  # one at a time: C has 3.75 million
        num_workers=loader_workers,
        pin_memory=pinned,
        multiprocessing_context=LoaderContext([__name__]) if loader_workers else None,
        worker_init_fn=joining(),
        collate_fn=_stack,
        # Of its own: else a model's dropout would depend on whether its images were in the cache.
        generator=torch.Generator(),
    )
    for images in loader:
        if isinstance(images, DataError):
            raise images
        yield images


def _stack(images: Sequence[torch.Tensor | DataError]) -> torch.Tensor | DataError:
    pixels = [image for image in images if isinstance(image, torch.Tensor)]
    problems = [p for image in images if isinstance(image, DataError) for p in image.problems]
    return DataError(problems) if problems else torch.stack(pixels)


def batch_indices(order: torch.Tensor, batch_size: int) -> list[torch.Tensor]:
    """Cut an order of images into batches; none is dropped.

    A last batch of a single image joins the one before it: BatchNorm cannot train on one.
    """
    parts = list(torch.split(order, batch_size))
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


class _PixelCache:
    """Decoded sources, least recently used first out, up to CACHE_BYTES. For any threads."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str, str], torch.Tensor] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, source: ImageSource) -> torch.Tensor:
        with self._lock:
            pixels = self._kept.pop(source.key, None)
            if pixels is None:
                pixels = source.decode_all()
            self._kept[source.key] = pixels
            while sum(kept.nbytes for kept in self._kept.values()) > CACHE_BYTES:
                self._kept.popitem(last=False)
            return pixels


_CACHE = _PixelCache()
