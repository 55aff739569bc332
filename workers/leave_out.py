"""Leaving out images that do not decode, for those who asked for it by `skip_undecodable`.

Without that a bad image is an error. A left-out image is as if it were not in its folder: nothing
takes its place, and the rows say how many images were scored of how many are there.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from workers.datasets import Dataset, Split
from workers.decode import decode
from workers.errors import DataError, Problem


def without_undecodable(dataset: Dataset, threads: int = 1) -> Dataset:
    """Return a data set without the images that do not decode; decodes all of it to find them.

    If any is left out, the digest is another one than that of the whole set.

    Raises:
        DataError: when no image of a split decodes.
    """
    with ThreadPoolExecutor(threads) as pool:
        splits = tuple(_sound_part(split, dataset.border, pool) for split in dataset.splits)
    return replace(dataset, splits=splits)


def _sound_part(split: Split, border: int, pool: ThreadPoolExecutor) -> Split:
    def decodes(name: str) -> bool:
        try:
            decode(split.folder / name, border)
        except DataError:
            return False
        return True

    sound = list(pool.map(decodes, split.files))
    if not any(sound):
        raise DataError([Problem(str(split.folder), "no image in it decodes")])
    if all(sound):
        return split
    kept = [
        (name, label)
        for name, label, ok in zip(split.files, split.labels, sound, strict=True)
        if ok
    ]
    files, labels = zip(*kept, strict=True)
    return replace(split, files=files, labels=labels, n_left_out=len(split) - len(kept))
