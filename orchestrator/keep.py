"""Which checkpoints a store keeps, and what that takes of its disk.

A checkpoint is needed as long as an evaluation of its own cell is missing, or a cell that is still
to be made is made from it. `keep` says what happens to those that are not: `all` keeps them,
`needed` deletes those that others were made from, and `none` deletes the others, too.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.expansion import collection_paused
from orchestrator.grid_file import Keep
from orchestrator.plan import Plan
from workers.storage import StorageError
from workers.store import CHECKPOINT, Store


class Needs:
    """Which cells still need which checkpoints, as cells get done. Pure."""

    def __init__(self, plan: Plan, keep: Keep) -> None:
        """Find out who needs what.

        Args:
            plan: of the whole grid: a cell that is not asked for today may be tomorrow.
            keep: the policy.
        """
        self._plan, self._keep = plan, keep
        own = [c for c, node in plan.nodes.items() if not node.cell.is_baseline]
        with collection_paused():  # a set for each of them
            self._users = {c: {c} if plan.nodes[c].missing else set[str]() for c in own}
        self._has_children = set[str]()
        for cell_id, node in plan.nodes.items():
            self._has_children.update(plan.parents(cell_id))
            if cell_id in plan.todo and not node.has_weights:
                for parent in plan.parents(cell_id):
                    self._users[parent].add(cell_id)

    def is_superfluous(self, cell_id: str) -> bool:
        """Whether a cell's checkpoint may go."""
        if self._keep == "all" or self._users.get(cell_id, {cell_id}):
            return False
        return self._keep == "none" or cell_id in self._has_children

    @property
    def superfluous(self) -> list[str]:
        """The cells whose checkpoints are there, and may go."""
        nodes = self._plan.nodes
        return [c for c in self._users if nodes[c].has_weights and self.is_superfluous(c)]

    def done(self, cell_id: str) -> list[str]:
        """Take note that a cell is done; return those whose checkpoints may go now."""
        touched = [c for c in (cell_id, *self._plan.parents(cell_id)) if c in self._users]
        for one in touched:
            self._users[one].discard(cell_id)
        return [one for one in touched if self.is_superfluous(one)]


class Keeper:
    """Deletes the checkpoints of a grid that are needed no longer."""

    def __init__(self, needs: Needs, store: Store) -> None:
        self._needs, self._store = needs, store

    def clear(self) -> None:
        """Delete what an earlier run has left.

        Raises:
            StorageError: when the store does not let it.
        """
        for cell_id in self._needs.superfluous:
            self._delete(cell_id)

    def done(self, cell_id: str) -> str:
        """Take note that a cell is done; return what went wrong with deleting checkpoints."""
        try:
            for superfluous in self._needs.done(cell_id):
                self._delete(superfluous)
        except StorageError as error:
            return str(error)
        return ""

    def _delete(self, cell_id: str) -> None:
        self._store.storage.delete(f"artifacts/{cell_id}/{CHECKPOINT}")


def order_of(plan: Plan) -> dict[str, float]:
    """Return priorities that make few checkpoints be needed at a time.

    Cells go in the plan's order, set by set, so that what a set's checkpoints are needed for
    follows soon. The plan's own priorities would begin with everybody's parents.
    """
    return {cell_id: -float(place) for place, cell_id in enumerate(plan.nodes)}


def peak_bytes(plan: Plan, keep: Keep, sizes: Mapping[str, int]) -> int:
    """Return the most bytes that a plan's checkpoints take at a time, one cell after another.

    Args:
        plan: what is to run, and what is there already.
        keep: the policy.
        sizes: bytes of a checkpoint, by model; one that is not here counts as nothing.
    """
    needs = Needs(plan, keep)
    bytes_of = {
        cell_id: sizes.get(node.cell.model.name, 0)
        for cell_id, node in plan.nodes.items()
        if not node.cell.is_baseline
    }
    there = {c for c in bytes_of if plan.nodes[c].has_weights} - set(needs.superfluous)
    taken = peak = sum(bytes_of[c] for c in there)
    for cell_id in plan.nodes:
        if cell_id in plan.todo:
            if cell_id in bytes_of and cell_id not in there:
                there.add(cell_id)
                taken += bytes_of[cell_id]
            peak = max(peak, taken)
            gone = there.intersection(needs.done(cell_id))
            taken -= sum(bytes_of[c] for c in gone)
            there -= gone
    return peak
