"""Reading data sets in the layouts that their archives unpack to: one file per layout."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from workers import registry
from workers.datasets.base import LAYOUTS, Dataset, Layout, Split
from workers.datasets.counts import count_problems, mapping_problems
from workers.datasets.locate import locate
from workers.errors import DataError, Problem
from workers.suites.base import DatasetSpec, Suite

__all__ = ["Dataset", "Split", "layouts", "read_dataset", "read_folders"]


@cache
def layouts() -> dict[str, Layout]:
    """Return every layout by name, after importing the modules that register them."""
    import workers.datasets as package

    list(registry.modules_of(package))
    return LAYOUTS


def read_dataset(
    suite: Suite, spec: DatasetSpec, root: Path, *, accept_counts: bool = False
) -> Dataset:
    """Read one data set of a suite below the data root.

    Args:
        suite: that the set belongs to.
        spec: what should be there.
        root: the data root.
        accept_counts: take another number of images than the published set has.

    Raises:
        DataError: with every problem found: folders missing or outside the label space, or
            another number of images, classes or label indices than the published set has.
    """
    dataset = read_folders(suite, spec, root)
    problems = mapping_problems(dataset)
    if not accept_counts:
        problems += count_problems(dataset)
    if problems:
        raise DataError(problems)
    return dataset


def read_folders(suite: Suite, spec: DatasetSpec, root: Path) -> Dataset:
    """Read one data set, whatever the number of its images and classes.

    Raises:
        DataError: with every folder that is missing, not readable or outside the label space.
    """
    try:
        return layouts()[spec.layout](locate(spec, root), spec, suite.space)
    except OSError as error:
        where = str(error.filename or root / spec.folder)
        message = f"cannot be read: {error.strerror or error}"
        raise DataError([Problem(where, message)]) from error
