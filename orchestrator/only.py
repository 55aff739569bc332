"""`--only`: which cells of a grid are meant."""

from __future__ import annotations

from orchestrator.grid import Grid
from orchestrator.plan import Only, every_cell
from workers.cell import BASELINE
from workers.errors import Problem, UserError, nearest

NAMED = 5
"""Cells that are named when several may be meant."""


def parse_only(text: str | None, grid: Grid) -> Only | None:
    """Parse 'method=ft,downstream=v2,downstream=a'; the values of one key are alternatives.

    A `cell` may be given by the beginning of its id.

    Raises:
        UserError: with every key and value that the grid does not have.
    """
    if text is None:
        return None
    allowed = {
        "model": [model.name for model in grid.models],
        "downstream": list(grid.downstream),
        "method": list(dict.fromkeys([BASELINE, *(entry.label for entry in grid.methods)])),
        "seed": [str(seed) for seed in grid.seeds],
    }
    chosen: dict[str, set[str]] = {}
    problems = []
    for part in text.split(","):
        key, _, value = (piece.strip() for piece in part.partition("="))
        if key == "cell":
            found = _cells_named(value, grid)
            chosen.setdefault(key, set()).update(found)
            problems += [] if len(found) == 1 else [_not_one(value, found, grid)]
            continue
        if key not in allowed:
            hint = nearest(key, [*allowed, "cell"])
            problems.append(Problem("--only", f"unknown key {key!r}", hint))
        elif value not in allowed[key]:
            hint = nearest(value, allowed[key])
            problems.append(Problem("--only", f"the grid has no {key} {value!r}", hint))
        chosen.setdefault(key, set()).add(value)
    if problems:
        raise UserError(problems)
    return {key: frozenset(values) for key, values in chosen.items()}


def _cells_named(beginning: str, grid: Grid) -> list[str]:
    """Return the ids that begin so, or the one that is so."""
    ids = every_cell(grid)
    if beginning in ids:
        return [beginning]
    return [cell_id for cell_id in ids if cell_id.startswith(beginning)]


def _not_one(beginning: str, found: list[str], grid: Grid) -> Problem:
    if not found:
        hint = nearest(beginning, every_cell(grid))
        return Problem("--only", f"the grid has no cell {beginning!r}", hint)
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    hint = f"give more of the id of {', '.join(found[:NAMED])}{more}"
    return Problem("--only", f"{len(found)} cells begin with {beginning!r}", hint)
