"""The driver's side of ImageNet-RIB sweeps: grids, plans, executors, reports.

The Python API is what the command line uses: `load_grid`, `plan`, `run`, `open_store`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.grid import load_grid
    from orchestrator.sweep import read_plan as plan
    from orchestrator.sweep import run
    from workers.store import open_store

__all__ = ["load_grid", "open_store", "plan", "run"]


def __getattr__(name: str) -> Callable[..., Any]:
    """Import a part of the API when it is asked for: `import orchestrator` stays quick."""
    if name == "load_grid":
        from orchestrator.grid import load_grid

        return load_grid
    if name == "plan":
        from orchestrator.sweep import read_plan

        return read_plan
    if name == "run":
        from orchestrator.sweep import run

        return run
    if name == "open_store":
        from workers.store import open_store

        return open_store
    raise AttributeError(name)
