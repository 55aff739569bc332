"""What the HTML report shows, gathered from a store or a published table; it draws nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from orchestrator.correlation import Correlation
from orchestrator.cost import Cost, cost_of
from orchestrator.curves import of_one_part, part_of_curves, read_curves, summed_up
from orchestrator.distance_points import correlations, points_of
from orchestrator.distances import read_distances
from orchestrator.entry_arrays import baselines
from orchestrator.grid import Grid
from orchestrator.histories import training_curves
from orchestrator.lease import Current, current_driver
from orchestrator.matrix import Matrix, matrices
from orchestrator.origin import ACCURACY_COLUMNS, Origin, origin_of
from orchestrator.plan import make_plan
from orchestrator.results import Results, labelled, read_results, set_names, stored_grid
from orchestrator.scoring import Scoring
from orchestrator.statistics import Floats
from orchestrator.status import cell_states
from workers.curve import Curve
from workers.store import Store

ONGOING = frozenset({"waiting", "running"})
"""States of cells that something is still to come of."""


@dataclass(frozen=True)
class Run:
    """What a store knows besides accuracies."""

    grid: Grid
    grid_yaml: str
    """As it stands in the store."""
    driver: Current
    states: pd.DataFrame
    """Of `orchestrator.status.cell_states`."""
    cost: Cost
    training: pd.DataFrame
    """Of `orchestrator.histories.training_curves`."""
    curves: pd.DataFrame
    """Of `orchestrator.curves.summed_up`."""
    curve: Curve | None
    """Which part of the images they are of, and of which sets; None where there are none."""
    origin: Origin

    @property
    def is_over(self) -> bool:
        """Whether nothing is still to come, or only if somebody runs the grid once more.

        While somebody drives the store, a cell that has failed may be tried again.
        """
        states = self.states["state"]
        if states.eq("done").all():
            return True
        return not self.driver.may_run and not states.isin(ONGOING).any()


@dataclass(frozen=True)
class Distances:
    """How far downstream sets are from the ID set, and what goes with it."""

    model: str
    """In whose features they were measured."""
    points: pd.DataFrame
    """Of `orchestrator.distance_points.otdd_points`."""
    correlations: Mapping[tuple[str, str], Correlation]
    """By model and method."""


@dataclass(frozen=True)
class ReportData:
    """A leaderboard and what is behind it."""

    title: str
    results: Results
    board: pd.DataFrame
    """Of `orchestrator.leaderboard.leaderboard`."""
    matrices: Mapping[tuple[str, str], Matrix]
    """By model and method."""
    baselines: Mapping[str, Floats]
    """Model -> (1 + n) percents of the model as it came, the ID set first; NaN where unknown."""
    pretraining: Mapping[str, str]
    """Model -> what it was pre-trained on, where that is known."""
    written_at: datetime
    run: Run | None = None
    """None for a published table."""
    distances: Distances | None = None
    """None where none was measured."""

    @property
    def is_whole(self) -> bool:
        """Whether no entry lacks anything."""
        return not self.board["missing"].gt(0).any()

    def mean_before(self, model: str) -> float:
        """Return a model's mean accuracy on the OOD sets as it came; NaN unless all are known."""
        return float(self.baselines[model][1:].mean())


def gather(
    source: str,
    id_name: str | None = None,
    mixed_data: bool = False,
    unmasked: Sequence[str] = (),
    from_counts: bool = False,
) -> ReportData:
    """Read a store or a published table, and all that a report of it shows.

    Raises:
        UserError: as `orchestrator.results.read_results`.
    """
    results = read_results(source, id_name, mixed_data, unmasked, from_counts)
    board = results.leaderboard()
    made = matrices(results.accuracies, results.sets, board, results.expected)
    run = None
    if results.expected is not None:
        run = _read_run(source, Scoring.parse(unmasked, results.sets.names), mixed_data)
    title = Path(source).stem
    models = list(dict.fromkeys(results.accuracies["model"]))
    pretraining: dict[str, str] = {}
    distances = None
    if run is not None:
        title = run.grid.name
        models = [model.name for model in run.grid.models]
        pretraining = {m.name: m.pretraining for m in run.grid.models if m.pretraining}
        distances = _read_distances(source, run.grid, results)
    before, _ = baselines(results.accuracies, results.sets, pd.Index(models, dtype=object))
    return ReportData(
        title=title,
        results=results,
        board=board,
        matrices={(one.model, one.method): one for one in made},
        baselines=dict(zip(models, before, strict=True)),
        pretraining=pretraining,
        written_at=datetime.now(UTC),
        run=run,
        distances=distances,
    )


def _read_distances(source: str, grid: Grid, results: Results) -> Distances | None:
    rows = read_distances(Store(source), grid)
    if rows.empty:
        return None
    points = points_of(results, rows)
    found = {(one.model, one.method): one.correlation for one in correlations(points)}
    return Distances(str(rows["model"].iloc[0]), points, found)


def _read_run(source: str, scoring: Scoring, mixed_data: bool) -> Run:
    store = Store(source)
    grid = stored_grid(store)
    cleared = store.scan("cleared").table.to_pandas()
    plan = make_plan(grid, store.committed())
    cells = {cell_id: node.cell for cell_id, node in plan.nodes.items()}
    attempts = store.scan("attempts").table.to_pandas()
    attempts = attempts[attempts["cell_id"].isin(list(cells))]
    driver = current_driver(store.storage)
    history = store.scan("history", ["cell_id", "epoch", "loss", "n_correct", "n_total"]).table
    rows = store.scan("accuracy", ACCURACY_COLUMNS).table.to_pandas()
    curves = read_curves(store, grid, scoring, mixed_data=mixed_data)
    curves = of_one_part(curves, grid.curve)
    return Run(
        grid=grid,
        grid_yaml=store.read_grid(),
        driver=driver,
        states=cell_states(plan, attempts, driver.may_run, cleared),
        cost=cost_of(attempts, cells, grid.demands),
        training=training_curves(history.to_pandas(), cells),
        curves=summed_up(curves, set_names(grid.suite)),
        curve=part_of_curves(curves),
        origin=origin_of(labelled(rows, cells), attempts),
    )
