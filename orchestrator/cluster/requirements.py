"""What a grid's cells need of a machine: which data, weights and store they will read there."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from orchestrator.cluster.comparison import weights_key
from orchestrator.cluster.questions import Question
from orchestrator.grid import Grid
from orchestrator.plan import Plan

if TYPE_CHECKING:
    from orchestrator.cluster.admission import Admission

PRETEND_GPUS = "RIB_PRETEND_GPUS"
"""Set to 1 where Ray is told of GPUs that are not there, to try a grid out without any."""


def admission_of(
    grid: Grid,
    plan: Plan,
    store: str,
    digests: Mapping[str, str],
    tell: Callable[[str], None] = lambda _: None,
) -> Admission:
    """Return what asks the machines of a cluster whether they may run a plan's cells.

    Args:
        grid: whose plan it is.
        plan: the cells.
        store: its URI, as the workers are told it.
        digests: of the data sets that the cells read, as this machine has them.
        tell: is told of what is found.
    """
    from orchestrator.cluster.admission import Admission

    cells = [plan.nodes[cell_id].cell for cell_id in plan.todo]
    names = {cell.model.name for cell in cells}
    asks_for_gpus = any(grid.demands.of(cell).resources.gpus for cell in cells)
    models = tuple(model for model in grid.models if model.name in names)
    question = Question(
        suite=grid.suite,
        accept_images=dict(grid.accept_images),
        data_root=grid.data_on_nodes,
        datasets=tuple(sorted(digests)),
        models=models,
        store=store,
        counts_gpus=asks_for_gpus and os.environ.get(PRETEND_GPUS) != "1",
    )
    known = {weights_key(model.name): model.weights for model in models if model.file is not None}
    return Admission(question, {**digests, **known}, tell)
