"""The driver's side of ImageNet-RIB sweeps: grids, plans, executors, reports.

The Python API is what the command line uses: `load_grid`, `read_plan`, `run`, `open_store`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.grid import load_grid
    from orchestrator.opened_store import open_store
    from orchestrator.sweep import read_plan, run

__all__ = ["load_grid", "open_store", "read_plan", "run"]

_MODULES = {
    "load_grid": "orchestrator.grid",
    "open_store": "orchestrator.opened_store",
    "read_plan": "orchestrator.sweep",
    "run": "orchestrator.sweep",
}


def __getattr__(name: str) -> Callable[..., Any]:
    """Import a part of the API when it is asked for: `import orchestrator` stays quick.

    None of them is named like a module of this package, which would take its place.
    """
    if name not in _MODULES:
        raise AttributeError(name)
    found: Callable[..., Any] = getattr(import_module(_MODULES[name]), name)
    return found
