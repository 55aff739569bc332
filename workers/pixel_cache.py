"""Transformed images on this machine's disk: each is decoded once, whoever needs it again.

A cell decodes every image that it scores, and the next cell of the same model decodes the same ones
again. Here they lie as they came out of the model's transform, uint8, in one file a split. Training
uses them, too, since it has the same transform.

There are no locks on the way of an image and nothing to repair. Its slot says which file it was
made from and ends in a checksum, so a slot that was never written, was cut short by a kill or a
full disk, was damaged, or is of a file that has changed since is no slot: the image is decoded and
written again. Processes that write the same slot write the same bytes. Slots are read, not mapped
into memory: in a mapped file that is cut short, a read kills the process.

A cache is there to save time. Whatever is wrong with it, images are decoded as if there were none.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import struct
import time
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

import torch

from workers.cell import digest
from workers.provenance import version_of

FORMAT = 1
"""Raised when slots look different, or when `workers.decode` or a transform gives other pixels."""

SUFFIX = ".pixels"
LEFT_FREE = 1 << 30
"""Bytes of the disk that a cache leaves to others."""
IDLE_S = 24 * 3600.0
"""Files that nobody has opened for so long make room for others. Younger ones stay: a grid goes
over the same sets again and again, and a set that is too large for the cache would drive out every
part of itself before it is needed again."""

Stamp = tuple[int, int]
"""An image file's bytes, and when it last changed in any way, in ns."""

_STAMP = struct.Struct("<Qq")
_HEADER = struct.Struct("<QqI")  # the stamp, and the CRC-32 of it and the pixels

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PixelCache:
    """A folder of this machine that holds up to `max_bytes` of pixels."""

    folder: Path
    max_bytes: int

    def slots(self, made_of: dict[str, Any], shape: tuple[int, ...], n: int) -> Slots | None:
        """Return the slots of a split's n images; None where there is no room for them.

        Args:
            made_of: says which images these are and how they are transformed, as JSON takes it.
            shape: of an image, [C, H, W].
            n: how many images there are.
        """
        libraries = {name: version_of(name) for name in ("pillow", "torchvision", "timm")}
        key = digest({**made_of, "shape": list(shape), "format": FORMAT, **libraries}, 32)
        slots = Slots(self.folder / f"{key}{SUFFIX}", shape)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with _locked(self.folder):
                has_room = slots.path.exists() or self._make_room(slots.n_bytes * n)
                if not has_room:
                    return None
                with slots.path.open("ab") as file:
                    file.truncate(slots.n_bytes * n)  # takes no room before there is something in
                os.utime(slots.path)
        except OSError as error:
            _complain(self.folder, str(error))
            return None
        return slots

    def _make_room(self, n_bytes: int) -> bool:
        """Say whether so many bytes fit, once files that nobody uses any more have gone."""
        found = {path: path.stat() for path in self.folder.glob(f"*{SUFFIX}")}
        for path in sorted(found, key=lambda path: found[path].st_mtime):
            if self._fits(n_bytes, found.values()) or not _is_idle(found[path]):
                break
            path.unlink()
            del found[path]
        return self._fits(n_bytes, found.values())

    def _fits(self, n_bytes: int, others: Collection[os.stat_result]) -> bool:
        """Whether they fit beside the other files, once those are full, too."""
        promised = sum(max(0, other.st_size - other.st_blocks * 512) for other in others)
        free = shutil.disk_usage(self.folder).free - promised - LEFT_FREE
        return n_bytes <= min(free, self.max_bytes - sum(other.st_size for other in others))


@dataclass(frozen=True)
class Slots:
    """One file of a cache: a slot for each image of a split."""

    path: Path
    shape: tuple[int, ...]

    @property
    def n_bytes(self) -> int:
        """Bytes of one slot."""
        return _HEADER.size + prod(self.shape)

    def get(self, place: int, image: Path, decode: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Return the pixels of the image at a place: from its slot, or decoded and put there.

        Args:
            place: where the image is among the split's.
            image: its file.
            decode: returns its pixels, uint8 `shape`. What it raises is passed on.
        """
        try:
            stamp = _stamp(image)  # first: the file may change while it is decoded
        except OSError:
            return decode()
        pixels = self._read(place, stamp)
        if pixels is None:
            pixels = decode()
            if pixels.shape == self.shape:
                self._write(place, stamp, pixels)
        return pixels

    def _read(self, place: int, stamp: Stamp) -> torch.Tensor | None:
        try:
            with self.path.open("rb", buffering=0) as file:
                slot = bytearray(os.pread(file.fileno(), self.n_bytes, place * self.n_bytes))
        except OSError:
            return None
        if len(slot) < self.n_bytes:
            return None
        if _HEADER.unpack_from(slot) != (*stamp, _check(stamp, slot[_HEADER.size :])):
            return None
        return torch.frombuffer(slot, dtype=torch.uint8, offset=_HEADER.size).view(self.shape)

    def _write(self, place: int, stamp: Stamp, pixels: torch.Tensor) -> None:
        data = pixels.contiguous().numpy().tobytes()
        slot = _HEADER.pack(*stamp, _check(stamp, data)) + data
        try:
            # Not made anew: a file that is gone was removed to make room.
            with self.path.open("r+b", buffering=0) as file:
                os.pwrite(file.fileno(), slot, place * self.n_bytes)
        except OSError as error:
            _complain(self.path.parent, str(error))


def _is_idle(file: os.stat_result) -> bool:
    return time.time() - file.st_mtime >= IDLE_S


def _stamp(image: Path) -> Stamp:
    """Return what is another when a file has changed, or was replaced by whatever tool."""
    found = image.stat()
    return found.st_size, found.st_ctime_ns


def _check(stamp: Stamp, pixels: bytes | bytearray) -> int:
    return zlib.crc32(pixels, zlib.crc32(_STAMP.pack(*stamp)))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time decide what a cache holds; the lock goes with its process."""
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@lru_cache(maxsize=64)
def _complain(folder: Path, message: str) -> None:
    """Warn once of what goes wrong with image after image."""
    logger.warning("images cannot be kept in %s: %s", folder, message)
