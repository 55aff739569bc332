"""Reading data sets in the layouts that their archives unpack to: one file per layout."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from workers import registry
from workers.datasets.base import LAYOUTS, Dataset, Layout, Split
from workers.errors import DataError, Problem
from workers.suites.base import DatasetSpec, Suite

__all__ = ["Dataset", "Split", "layouts", "read_dataset"]


@cache
def layouts() -> dict[str, Layout]:
    """Return every layout by name, after importing the modules that register them."""
    import workers.datasets as package

    list(registry.modules_of(package))
    return LAYOUTS


def read_dataset(suite: Suite, spec: DatasetSpec, root: Path) -> Dataset:
    """Read one data set of a suite below the data root.

    Raises:
        DataError: with every problem found: folders missing or outside the label space, or
            another number of images than the published set has.
    """
    dataset = layouts()[spec.layout](root / spec.folder, spec, suite.space)
    if spec.n_images is not None and len(dataset) != spec.n_images:
        message = f"{len(dataset)} images, {spec.n_images} expected"
        hint = "unpack the archive again: a download was cut short, or files were added"
        raise DataError([Problem(str(root / spec.folder), message, hint)])
    return dataset
