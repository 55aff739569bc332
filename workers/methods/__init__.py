"""The methods that can be named in a grid: one file each, found by looking."""

from __future__ import annotations

from functools import cache

from workers import registry
from workers.methods.base import FineTuning, Method, MethodConfig, Workbench

__all__ = ["FineTuning", "Method", "MethodConfig", "Workbench", "methods"]


@cache
def methods() -> dict[str, type[Method]]:
    """Return every method by name."""
    import workers.methods as package

    list(registry.modules_of(package))
    return dict(sorted(Method.registered.items()))
