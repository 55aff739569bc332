"""The suites that can be named in a grid: one module each, found by looking."""

from __future__ import annotations

from functools import cache

from workers import registry
from workers.suites.base import Clause, DatasetSpec, SplitKey, Suite

__all__ = ["Clause", "DatasetSpec", "SplitKey", "Suite", "suites"]


@cache
def suites() -> dict[str, Suite]:
    """Return every suite by name: what the modules of this package call `SUITE`."""
    import workers.suites as package

    found = (getattr(module, "SUITE", None) for module in registry.modules_of(package))
    return {suite.name: suite for suite in found if suite is not None}
