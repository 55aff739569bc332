"""MLflow: a run per cell, in a SQLite file of its own.

`mlflow ui --backend-store-uri sqlite:///OUT/mlflow.db` shows them. MLflow's files in folders are in
maintenance and refused by its later versions, so it is SQLite, for which the lightest package
(mlflow-skinny) needs SQLAlchemy and Alembic beside it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.export.cells import ExportedCell, Source, slug
from orchestrator.export.tensorboard import scalars

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXTRA = "mlflow"
PACKAGES = ["mlflow", "sqlalchemy", "alembic"]

CELL_TAG = "rib.cell_id"

AT_ONCE = 1000
"""Metrics that MLflow takes together."""

LONGEST = 5000
"""Characters that MLflow takes of a tag."""

ENVIRONMENT = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
"""MLflow tells its maker how it is used unless told not to, from the moment it is imported."""


def write(source: Source, cells: Sequence[ExportedCell], out: Path) -> int:
    """Write runs, replacing those of an earlier export; return the number of cells."""
    from mlflow import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    client = MlflowClient(f"sqlite:///{(out / 'mlflow.db').resolve()}")
    experiment = _experiment(client, source, out)
    for one in cells:
        for run in client.search_runs([experiment], f"tags.`{CELL_TAG}` = '{one.cell.cell_id}'"):
            client.delete_run(run.info.run_id)
        _write_run(client, experiment, one)
    return len(cells)


def _experiment(client: MlflowClient, source: Source, out: Path) -> str:
    name = " ".join(source.grid.split()) or "grid"
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    artifacts = (out / "artifacts").resolve().as_uri()
    return str(client.create_experiment(name, artifact_location=artifacts))


def _write_run(client: MlflowClient, experiment: str, one: ExportedCell) -> None:
    from mlflow.entities import Metric, Param, RunTag

    started, finished = _milliseconds(one.started_at), _milliseconds(one.finished_at)
    run = client.create_run(experiment, start_time=started, run_name=one.name)
    run_id = run.info.run_id
    metrics = [Metric(_key(name), value, finished, step) for name, value, step in scalars(one)]
    params = [Param(_key(name), str(value)[:LONGEST]) for name, value in one.settings.items()]
    said = {CELL_TAG: one.cell.cell_id, **one.provenance}
    said["contaminated"] = ", ".join(one.contaminated)
    tags = [RunTag(_key(name), value[:LONGEST]) for name, value in said.items()]
    client.log_batch(run_id, params=params, tags=tags)
    for start in range(0, len(metrics), AT_ONCE):
        client.log_batch(run_id, metrics=metrics[start : start + AT_ONCE])
    client.set_terminated(run_id, "FINISHED", finished)


def _key(text: str) -> str:
    """Return text as MLflow takes it for a name: parts of signs that files may have."""
    return "/".join(slug(part) for part in text.split("/") if part)[:250] or "_"


def _milliseconds(moment: datetime | None) -> int:
    return 0 if moment is None else int(1000 * moment.timestamp())
