"""What a search is: which configurations it tries, in what order, and which one it chooses. Pure.

Random search: values are drawn from the search's identity, so that trial i is the same on every
run and on every machine, and a search can be gone on with or made longer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from orchestrator.grid import Grid
from orchestrator.grid_tune import RECIPE
from orchestrator.plan import Node, Plan, expand
from orchestrator.tune_keys import ChoiceEntry, Domain, Tune
from workers.cell import Cell, digest
from workers.methods import FineTuning, method_of, methods
from workers.recipe import Recipe
from workers.tuning import Trial

HYPERPARAMETERS = "hyperparameters"

Row = Mapping[str, Any]
Place = tuple[str, str]
"""`recipe` or `hyperparameters`, and a key of it."""

DRAWS_PER_TRIAL = 50
"""Draws after which a space is taken to have no configuration that was not tried."""

DIGITS = 13
"""Hex digits that a quantile is made of: all that a float can tell apart."""


@dataclass(frozen=True)
class Search:
    """The choice of values for one model, downstream set and method."""

    start: Cell
    """The cell with the grid's own values; its recipe holds `tune.holdout` out."""
    space: Mapping[Place, Domain]
    tune: Tune

    @cached_property
    def search_id(self) -> str:
        """Digest what decides which configurations are tried and which are stopped."""
        space = [[*place, domain.model_dump(mode="json")] for place, domain in self.space.items()]
        tune = self.tune.model_dump(mode="json", exclude={"space", "trials"})
        return digest([self.start.identity(), sorted(space, key=lambda one: one[:2]), tune])

    @property
    def key(self) -> tuple[str, str, str]:
        return self.start.model.name, str(self.start.downstream), self.start.label

    @property
    def epochs(self) -> int:
        """How long a trial may get."""
        return int((self.start.recipe or {})["epochs"])

    @cached_property
    def trials(self) -> tuple[Trial, ...]:
        """The configurations that are tried, the grid's own first, each of them once.

        A space that has fewer of them than `tune.trials` makes fewer trials.
        """
        trials = [Trial(self.search_id, 0, self.start)]
        known = {self.start.cell_id}
        for values in self._draws():
            if len(trials) == self.tune.trials:
                break
            cell = self._with(values)
            if cell.cell_id not in known:
                known.add(cell.cell_id)
                trials.append(Trial(self.search_id, len(trials), cell, values))
        return tuple(trials)

    def _draws(self) -> Iterator[dict[str, dict[str, Any]]]:
        for number in range(DRAWS_PER_TRIAL * self.tune.trials):
            values: dict[str, dict[str, Any]] = {}
            for (section, name), domain in self.space.items():
                drawn = int(digest([self.search_id, number, section, name], DIGITS), 16)
                values.setdefault(section, {})[name] = domain.at(drawn / 16**DIGITS)
            yield values

    def _with(self, values: Mapping[str, Mapping[str, Any]]) -> Cell:
        kind = methods()[self.start.method]
        recipe = {**(self.start.recipe or {}), **values.get(RECIPE, {})}
        config = {**self.start.hyperparameters, **values.get(HYPERPARAMETERS, {})}
        return replace(
            self.start,
            recipe=Recipe.model_validate(recipe).model_dump(mode="json"),
            hyperparameters=kind.Config.model_validate(config).model_dump(mode="json"),
        )


@dataclass(frozen=True)
class Finding:
    """What a search has come to."""

    search: Search
    rows: tuple[Row, ...]
    """Of the trials that have ended, by number."""

    @property
    def is_complete(self) -> bool:
        return len(self.rows) == len(self.search.trials)

    @property
    def best(self) -> Row | None:
        """The trial with the most right held-out images; of equals the one with the lower number.

        Only trials that ran to their end compete: what a stopped one would have come to is not
        known, and one that diverged has no model.
        """
        done = [row for row in self.rows if row["state"] == "done"]
        return max(done, key=lambda row: (accuracy_of(row), -row["trial"]), default=None)

    @property
    def own(self) -> Row | None:
        """The trial with the grid's own values, if it came to an end."""
        return next((r for r in self.rows if r["trial"] == 0 and r["state"] == "done"), None)

    def count(self, state: str) -> int:
        return sum(row["state"] == state for row in self.rows)

    @property
    def choice(self) -> ChoiceEntry | None:
        """The values of the best trial for everything that was searched."""
        best = self.best
        if best is None:
            return None
        cell = self.search.trials[best["trial"]].cell
        sections: dict[str, Mapping[str, Any]] = {
            RECIPE: cell.recipe or {},
            HYPERPARAMETERS: cell.hyperparameters,
        }
        values: dict[str, dict[str, Any]] = {RECIPE: {}, HYPERPARAMETERS: {}}
        for section, name in self.search.space:
            values[section][name] = sections[section][name]
        model, downstream, method = self.search.key
        return ChoiceEntry(model=model, downstream=downstream, method=method, **values)


def accuracy_of(row: Row) -> float:
    """Return a trial's held-out accuracy as a fraction."""
    return float(row["held_out_correct"] / row["held_out_total"])


def searches_of(grid: Grid) -> list[Search]:
    """Return a grid's searches: one for each cell of its first seed that has a space."""
    tune = grid.tune
    assert tune is not None, "the grid has no space to search"
    holding_out = grid.recipe.model_copy(update={"holdout": tune.holdout})
    held = replace(grid, recipe=holding_out, seeds=grid.seeds[:1])
    searches = []
    for cell in expand(held):
        if not cell.is_baseline and methods()[cell.method].trains:
            space = _space_of(cell, tune)
            if space:
                searches.append(Search(cell, space, tune))
    return searches


def _space_of(cell: Cell, tune: Tune) -> dict[Place, Domain]:
    """Return what there is to search for a cell, without what its method does not look at."""
    space = {
        (RECIPE, name): domain
        for name, domain in tune.space.get(RECIPE, {}).items()
        if _matters(cell, name, domain)
    }
    for name, domain in tune.space.get(cell.label, {}).items():
        space[HYPERPARAMETERS, name] = domain
    return space


def _matters(cell: Cell, name: str, domain: Domain) -> bool:
    """Whether a method looks at a key of the recipe; some have a learning rate of their own."""
    method = method_of(cell)
    if not isinstance(method, FineTuning):
        return True
    recipes = [
        Recipe.model_validate({**(cell.recipe or {}), name: value}) for value in domain.extremes
    ]
    own = method.recipe(Recipe.model_validate(cell.recipe))
    return any(method.recipe(recipe) != own for recipe in recipes)


def findings_of(searches: Sequence[Search], rows: Iterable[Row]) -> list[Finding]:
    """Sort a store's rows by the searches that they are of."""
    of_search: dict[str, dict[int, Row]] = {}
    for row in rows:
        of_search.setdefault(row["search"], {})[row["trial"]] = row
    return [
        Finding(search, tuple(found[n] for n in sorted(found) if n < len(search.trials)))
        for search in searches
        for found in [of_search.get(search.search_id, {})]
    ]


def to_run(findings: Iterable[Finding], retry: bool = False) -> list[Trial]:
    """Return the trials that have not ended, every search's first ones first.

    Args:
        findings: of all searches.
        retry: whether those that failed are to run once more.
    """
    left = []
    for finding in findings:
        ended = {r["trial"] for r in finding.rows if not (retry and r["state"] == "failed")}
        left += [trial for trial in finding.search.trials if trial.number not in ended]
    return sorted(left, key=lambda trial: trial.number)


def plan_of(grid: Grid, trials: Iterable[Trial]) -> Plan:
    """Return trials as cells to train, for the checks that cells have before a run."""
    nodes = {}
    for trial in trials:
        for cell in (trial.cell, *trial.cell.ancestors):
            if cell.downstream is not None:
                n_images = grid.suite.evaluation_sets[cell.downstream].n_images or 1
                nodes[cell.cell_id] = Node(cell, (), (), False, n_images, 0)
    return Plan(nodes, frozenset(nodes))
