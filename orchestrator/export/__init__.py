"""`rib export`: a grid's results in the forms of other tools, one module each.

Nothing here sends anything anywhere: each exporter writes below one folder, and what goes on from
there is the user's doing. Exporting twice leaves the same as exporting once.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

from orchestrator.export.cells import ExportedCell, Source, read_source
from workers.errors import Problem, UserError
from workers.store import Store

__all__ = ["EXPORTERS", "Exported", "ExportedCell", "Source", "export"]

EXPORTERS = {
    "tensorboard": "tensorboard",
    "wandb": "weights_and_biases",
    "mlflow": "mlflow_runs",
    "model-card": "model_cards",
}
"""Name -> module. Each has

- `write(source, cells, out) -> int`, which returns how many cells it wrote;
- PACKAGES that it imports, and the EXTRA of this project that installs them;
- ENVIRONMENT, what these have to be told before they are imported so that they send nothing.
"""


@dataclass(frozen=True)
class Exported:
    """What was exported."""

    n_cells: int
    n_left_out: int
    """Cells that are not finished."""


def export(store: Store, to: str, out: Path, incomplete: bool = False) -> Exported:
    """Write a grid's results for another tool.

    Args:
        store: whose grid it is.
        to: one of EXPORTERS.
        out: the folder to write below; made if it is not there.
        incomplete: write cells that lack a set, too, with what they have.

    Raises:
        UserError: when there is no grid, rows cannot be read, the tool's package is not installed,
            or the folder cannot be written.
        StorageError: when the store does not answer.
    """
    exporter = import_module(f"{__name__}.{EXPORTERS[to]}")
    for name, value in exporter.ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    _check_installed(exporter, to)
    source = read_source(store)
    chosen = [cell for cell in source.cells if cell.is_complete or (incomplete and cell.has_rows)]
    try:
        out.mkdir(parents=True, exist_ok=True)
        n_written: int = exporter.write(source, chosen, out)
    except OSError as error:
        raise UserError([Problem("--out", f"cannot write {out}: {error.strerror}")]) from error
    return Exported(n_written, len(source.cells) - len(chosen))


def _check_installed(exporter: ModuleType, to: str) -> None:
    for package in exporter.PACKAGES:
        try:
            import_module(package)
        except ImportError as error:
            hint = f"pip install rib-orchestrator[{exporter.EXTRA}]"
            problem = Problem(f"--to {to}", f"{package} is not installed", hint)
            raise UserError([problem]) from error
