"""What exporters are given: each cell of a grid, with all that is known of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pandas as pd

from orchestrator.accuracies import BASELINE, accuracies_from_rows
from orchestrator.contamination import Contamination
from orchestrator.curves import PART, curves_of, of_one_part
from orchestrator.grid import Grid
from orchestrator.plan import Node, make_plan
from orchestrator.results import labelled, stored_grid
from orchestrator.scoring import MASKED, Scoring
from workers.cell import Cell
from workers.errors import Problem, UserError
from workers.store import Store
from workers.suites import Suite

PROVENANCE = [
    "dataset_digest",
    "transform_digest",
    "weights_digest",
    "precision",
    "device",
    "torch_version",
    "timm_version",
    "ray_version",
    "rib_version",
    "git_commit",
]

_COLUMNS = [
    *["model", "method", "downstream", "seed", "cell_id", "epoch", *PART],
    *["eval_dataset", "corruption", "severity"],
    *["n_correct", "n_correct_unmasked", "n_total"],
    *PROVENANCE,
    *["started_at", "finished_at"],
]

Percents = Mapping[str, float]
"""Evaluation set -> accuracy in percent."""


@dataclass(frozen=True)
class ExportedCell:
    """A cell and its results."""

    cell: Cell
    is_complete: bool
    """Whether every set that the grid asks for has all of its rows."""
    has_checkpoint: bool
    contaminated: tuple[str, ...]
    """The sets that show images of the source that it was tuned on."""
    accuracies: Percents = field(default_factory=dict)
    unmasked: Percents = field(default_factory=dict)
    """The same over the whole label space, where that is known."""
    before: Percents = field(default_factory=dict)
    """Those of its model as it came."""
    curves: Mapping[int, Percents] = field(default_factory=dict)
    """By epoch, where it was evaluated while it was trained."""
    training: tuple[Mapping[str, Any], ...] = ()
    """Rows of `history`, in the order of epochs."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    """What its rows say of how they came to be; several values are joined by commas."""
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def has_rows(self) -> bool:
        return bool(self.accuracies or self.curves or self.training)

    @property
    def name(self) -> str:
        """What it is called in another tool."""
        return str(self.cell)

    @property
    def folder(self) -> str:
        """A name for a file or folder that is safe, short and its own."""
        text = f"{self.cell.model.name}-{self.cell.label}-{self.cell.downstream or 'as-it-came'}"
        return f"{slug(text)}-{self.cell.cell_id}"

    @property
    def seconds(self) -> float:
        """Wall-clock time of its training, by its history."""
        return float(sum(row["seconds"] or 0.0 for row in self.training))

    @property
    def settings(self) -> dict[str, str | int | float | bool]:
        """Return what it is and what it was made with, in one flat table of plain values."""
        cell = self.cell
        flat: dict[str, Any] = {
            "model": cell.model.name,
            "pretraining": cell.model.pretraining,
            "downstream": cell.downstream or "",
            "method": cell.label,
            "seed": cell.seed,
        }
        flat |= {f"recipe.{k}": v for k, v in (cell.recipe or {}).items()}
        flat |= {f"method.{k}": v for k, v in cell.hyperparameters.items()}
        return {k: v if isinstance(v, str | int | float) else str(v) for k, v in flat.items()}


@dataclass(frozen=True)
class Source:
    """A store's grid and its cells."""

    store: str
    grid: str
    suite: Suite
    cells: tuple[ExportedCell, ...]


def slug(text: str) -> str:
    """Return text as a part of a file's name: no separators, no dots in front, 80 characters."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).lstrip("._-")[:80] or "cell"


def read_source(store: Store) -> Source:
    """Read a store's grid, and all that is known of its cells.

    Raises:
        UserError: when there is no grid, rows cannot be read, or must not be compared.
    """
    grid = stored_grid(store)
    plan = make_plan(grid, store.committed())
    wanted = {cell_id: node for cell_id, node in plan.nodes.items() if node.wanted}
    cells = {cell_id: node.cell for cell_id, node in wanted.items()}
    rows = labelled(_read(store, "accuracy", _COLUMNS), cells)
    tables = _Tables(rows, _read(store, "history"), grid, cells)
    contamination = Contamination.of(grid.suite)
    exported = tuple(_exported(node, tables, contamination) for node in wanted.values())
    return Source(store.uri, grid.name, grid.suite, exported)


_Key = tuple[str, str, int, str | None]
"""Model, method, seed and downstream set."""


class _Tables:
    """A store's rows, by cell."""

    def __init__(
        self, rows: pd.DataFrame, history: pd.DataFrame, grid: Grid, cells: Mapping[str, Cell]
    ) -> None:
        suite = grid.suite
        final = rows[rows["epoch"].isna()]
        whole_space = Scoring.parse(["all"], [suite.id.name, *suite.ood_names])
        known = final[final["n_correct_unmasked"].notna()]
        self.accuracies = _percents(final, suite)
        self.unmasked = _percents(known, suite, whole_space)
        self.before = {key[0]: of for key, of in self.accuracies.items() if key[1] == BASELINE}
        self.curves: dict[int, dict[_Key, dict[str, float]]] = {}
        curves = of_one_part(curves_of(rows, cells, suite.splits()), grid.curve)
        for epoch, some in curves.groupby("epoch"):
            self.curves[int(str(epoch))] = _by_key(some)
        self.final = dict(iter(final.groupby("cell_id", observed=True)))
        self.history: dict[str, list[dict[str, Any]]] = {}
        plain = history.astype(object).where(history.notna(), None)
        records: list[Any] = plain.sort_values("epoch").to_dict("records")
        for row in records:
            self.history.setdefault(row["cell_id"], []).append(row)


def _exported(node: Node, tables: _Tables, contamination: Contamination) -> ExportedCell:
    cell = node.cell
    key = _key_of(cell)
    rows = tables.final.get(cell.cell_id)
    return ExportedCell(
        cell=cell,
        is_complete=not node.missing,
        has_checkpoint=node.has_weights and not cell.is_baseline,
        contaminated=contamination.sets(cell.downstream),
        accuracies=tables.accuracies.get(key, {}),
        unmasked=tables.unmasked.get(key, {}),
        before=tables.before.get(cell.model.name, {}),
        curves={e: found[key] for e, found in tables.curves.items() if key in found},
        training=tuple(tables.history.get(cell.cell_id, ())),
        provenance={} if rows is None else _provenance(rows),
        started_at=_moment(rows, "started_at", "min"),
        finished_at=_moment(rows, "finished_at", "max"),
    )


def _key_of(cell: Cell) -> _Key:
    return cell.model.name, cell.label, cell.seed, cell.downstream


def _percents(
    rows: pd.DataFrame, suite: Suite, scoring: Scoring = MASKED
) -> dict[_Key, dict[str, float]]:
    """Return the accuracies of each cell that has a complete set."""
    return _by_key(accuracies_from_rows(rows, suite.splits(), scoring))


def _by_key(accuracies: pd.DataFrame) -> dict[_Key, dict[str, float]]:
    found: dict[_Key, dict[str, float]] = {}
    records: list[Any] = accuracies.to_dict("records")
    for row in records:
        downstream = None if pd.isna(row["downstream"]) else str(row["downstream"])
        key = str(row["model"]), str(row["method"]), int(row["seed"]), downstream
        found.setdefault(key, {})[str(row["eval_dataset"])] = float(row["accuracy"])
    return found


def _provenance(rows: pd.DataFrame) -> dict[str, str]:
    """Say what rows are of: the distinct values of each column, but for digests of several sets."""
    said = {}
    for column in PROVENANCE:
        values = sorted({str(value) for value in rows[column].dropna()})
        if values and column != "dataset_digest":
            said[column] = ", ".join(values)
    for name, some in rows.groupby("eval_dataset", observed=True):
        digests = sorted(set(some["dataset_digest"].dropna()))
        if digests:
            said[f"dataset_digest.{name}"] = ", ".join(map(str, digests))
    return said


def _moment(rows: pd.DataFrame | None, column: str, which: str) -> datetime | None:
    if rows is None or rows[column].isna().all():
        return None
    moment: datetime = rows[column].agg(which).to_pydatetime()
    return moment


def _read(store: Store, table: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
    scan = store.scan(table, columns)
    if scan.damaged:
        hint = "run the grid again: its rows are then made anew"
        raise UserError([Problem(name, "this file is damaged", hint) for name in scan.damaged])
    frame: pd.DataFrame = scan.table.to_pandas()
    return frame
