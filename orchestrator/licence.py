"""Licences that forbid tuning on a data set: nothing starts until the user acknowledges them. Pure.

Evaluating on such a set is fine. What counts are the cells that have yet to be trained on it, those
that a soup is made of included.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.grid import Grid
from orchestrator.plan import Node, Plan
from workers.errors import Problem, UserError
from workers.suites import Clause, Suite

MARK = "‡"


@dataclass(frozen=True)
class Restriction:
    """A clause that a plan comes up against."""

    clause: Clause
    sets: tuple[str, ...]
    """The downstream sets whose licence has it."""
    n_cells: int
    """Cells that would be tuned on one of them."""
    is_acknowledged: bool

    def __str__(self) -> str:
        cells = "1 cell is" if self.n_cells == 1 else f"{self.n_cells} cells are"
        return f"{cells} to be tuned on {', '.join(self.sets)}, against {self.clause.name}"


def clause_of(node: Node, suite: Suite) -> Clause | None:
    """Return the clause that a cell comes up against if it is run."""
    downstream = node.cell.downstream
    if downstream is None or not node.has_to_train:
        return None
    return suite.dataset(downstream).no_tuning


def restrictions(grid: Grid, plan: Plan) -> list[Restriction]:
    """Return the clauses that the cells to run come up against, acknowledged or not."""
    found: dict[Clause, list[str]] = {}
    for cell_id, node in plan.nodes.items():
        clause = clause_of(node, grid.suite) if cell_id in plan.todo else None
        if clause is not None:
            found.setdefault(clause, []).append(str(node.cell.downstream))
    return [
        Restriction(clause, tuple(dict.fromkeys(sets)), len(sets), clause.name in grid.acknowledge)
        for clause, sets in found.items()
    ]


def check_acknowledged(grid: Grid, plan: Plan) -> None:
    """Check that the user has acknowledged every clause that a plan comes up against.

    Raises:
        UserError: naming each that is not, its reason, and what to write to go on.
    """
    problems = [
        Problem("acknowledge", f"{one}: {one.clause.reason}", how_to_acknowledge(one.clause))
        for one in restrictions(grid, plan)
        if not one.is_acknowledged
    ]
    if problems:
        raise UserError(problems)


def how_to_acknowledge(clause: Clause) -> str:
    """Say what a user writes who goes on all the same."""
    return (
        f"to go on, add to the grid: acknowledge: [{clause.name}], or to the command: "
        f"--acknowledge {clause.name}"
    )
