"""What the templates ask for, by name: counts, labels and rows in the order in which they stand."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from orchestrator.report.html.numbers import beside, number, places
from orchestrator.report.tables import column_marks, leaderboard_notes, short_names
from orchestrator.report_data import ReportData
from orchestrator.status import FAILED, STATES

Row = dict[Any, Any]

NAMED_HOLES = 20
NAMED_FAILURES = 200
MESSAGE_LENGTH = 4000

SOFTWARE = {
    "rib_version": "rib-orchestrator",
    "git_commit": "git commit",
    "torch_version": "PyTorch",
    "timm_version": "timm",
    "ray_version": "Ray",
    "precision": "precision",
    "device": "device",
}


OTHER_COLUMNS = ("OOD", "ID", "ID drop", "downstream")

LABELS = {"downstream": "tuned set"}

TITLES = {
    "mRI": "Mean robustness improvement, points",
    "OOD": "Mean accuracy on the OOD sets but the one that was tuned on, %",
    "ID": "Accuracy on {id}, %",
    "ID drop": "Points of accuracy on {id} below the pre-trained model",
    "downstream": "Accuracy on the set that was tuned on, %",
}


@dataclass(frozen=True)
class Column:
    """A column of the leaderboard."""

    name: str
    """In the leaderboard's frame."""
    label: str
    title: str
    style: str


class Context:
    """The page's view of what was gathered."""

    named_holes = NAMED_HOLES
    named_failures = NAMED_FAILURES
    software = tuple(SOFTWARE.items())

    def __init__(self, data: ReportData) -> None:
        self.data = data
        self.sets = data.results.sets
        self.remarks = data.results.remarks
        self._board: list[Row] = data.board.to_dict("records")

    # ------------------------------------------------------------------ the top of the page

    @property
    def kind(self) -> str:
        return "Robustness after fine-tuning"

    @property
    def suite(self) -> str:
        if self.data.run is None:
            return ""
        suite = self.data.run.grid.suite
        return f"{suite.name} version {suite.version}"

    @property
    def written_at(self) -> str:
        return self.data.written_at.strftime("%Y-%m-%d %H:%M:%S UTC")

    @property
    def n_models(self) -> int:
        return len(self.data.baselines)

    @property
    def n_methods(self) -> int:
        return len(self.method_names)

    @property
    def best(self) -> Row | None:
        """Return the first row of the leaderboard, if it is ranked."""
        return next((row for row in self._board if row["missing"] == 0), None)

    @property
    def n_complete(self) -> int:
        return sum(row["missing"] == 0 for row in self._board)

    @cached_property
    def states(self) -> dict[str, int]:
        """Count the cells in each state that any is in."""
        if self.data.run is None:
            return {}
        counts = Counter(self.data.run.states["state"])
        return {state: counts[state] for state in STATES if counts[state]}

    @property
    def n_cells(self) -> int:
        return sum(self.states.values())

    @property
    def sections(self) -> list[tuple[str, str]]:
        """Return the anchors and names of the sections that are there."""
        run = self.data.run
        found = [("leaderboard", "Leaderboard")]
        if self._board:
            found += [("matrices", "Matrix"), ("pretrainings", "Pre-training")]
            found.append(("profiles", "Profiles"))
        if run is not None and len(run.training):
            found.append(("epochs", "Epochs"))
        if self.data.distances is not None:
            found.append(("distances", "Distances"))
        if self.costs:
            found.append(("cost", "Cost"))
        if run is not None:
            found += [("failures", "Failures"), ("provenance", "Provenance")]
        return found

    @property
    def curve_note(self) -> str:
        """Say what the accuracies along training are of; nothing where there are none."""
        curve = None if self.data.run is None else self.data.run.curve
        if curve is None:
            return ""
        named = ", ".join(name for name in self.sets.names if name in curve.sets)
        return (
            "Accuracies after each epoch, epoch 0 before training, are of "
            f"{curve.images} of {named}; no value of theirs is part of RI."
        )

    # ------------------------------------------------------------------ the leaderboard

    @cached_property
    def model_names(self) -> list[str]:
        return list(dict.fromkeys(row["model"] for row in self._board))

    @cached_property
    def method_names(self) -> list[str]:
        return list(dict.fromkeys(row["method"] for row in self._board))

    @cached_property
    def marks(self) -> dict[str, str]:
        return column_marks(self.sets, self.remarks)

    @cached_property
    def ood(self) -> list[tuple[str, str]]:
        """Return the OOD sets, each with its short name."""
        return list(zip(self.sets.names, short_names(self.sets), strict=True))[1:]

    @property
    def has_intervals(self) -> bool:
        return bool(self.data.board["interval"].notna().any())

    @property
    def has_seeds(self) -> bool:
        return any(row["seeds"] > 1 for row in self._board)

    @cached_property
    def columns(self) -> list[Column]:
        """Return the leaderboard's columns of numbers."""
        short = dict(self.ood)
        return [
            Column(
                name,
                short.get(name.removeprefix("RI "), LABELS.get(name, name))
                + self.marks.get(name, ""),
                TITLES.get(name, "RI after fine-tuning on {name}, points").format(
                    id=self.sets.id, name=name.removeprefix("RI ")
                ),
                "mri" if name == "mRI" else "tint" if name.startswith("RI ") else "",
            )
            for name in ["mRI", *(f"RI {name}" for name in self.sets.ood), *OTHER_COLUMNS]
        ]

    @property
    def width(self) -> int:
        """Return how many columns the leaderboard has."""
        return 3 + len(self.columns) + self.has_intervals

    def cells(self, row: Row) -> list[tuple[Column, str, str, Any]]:
        """Return an entry's numbers: the column, the text, what stands beside it, and the value."""
        return [
            (column, number(row, column.name), beside(row, column.name), row[column.name])
            for column in self.columns
        ]

    def places(self, row: Row) -> str:
        return places(row)

    @cached_property
    def groups(self) -> list[tuple[bool, list[Row]]]:
        """Return the complete entries, then the others, as far as there are any."""
        groups = [
            (is_whole, [row for row in self._board if (row["missing"] == 0) == is_whole])
            for is_whole in (True, False)
        ]
        return [(is_whole, rows) for is_whole, rows in groups if rows]

    @cached_property
    def doubtful(self) -> dict[str, str]:
        """Model -> what the canary says of it, where that is not what is published."""
        return {
            verdict.model: str(verdict)
            for verdict in self.remarks.verdicts
            if verdict.state == "differs"
        }

    @property
    def notes(self) -> list[str]:
        """Say what is said under every leaderboard."""
        results = self.data.results
        # What is missing stands in the table itself.
        notes = leaderboard_notes(self.data.board.assign(missing=0), False, self.remarks)
        notes += [f"mixed: {problem.where}: {problem.message}" for problem in results.mixed]
        if results.n_short:
            notes.append(
                f"{results.n_short} rows were scored on fewer images than their set has: those "
                "that do not decode were left out."
            )
        return notes

    # ------------------------------------------------------------------ what a store knows

    @cached_property
    def costs(self) -> list[Row]:
        """Return the rows of the cost table, each with its share of the longest in percent."""
        if self.data.run is None:
            return []
        rows: list[Row] = self.data.run.cost.by_method.to_dict("records")
        most = max((row["hours"] for row in rows), default=0) or 1
        return [{**row, "width": 100 * row["hours"] / most} for row in rows]

    @property
    def most_hours(self) -> float:
        """Return the hours of the method that took most."""
        return max((row["hours"] for row in self.costs), default=0.0)

    @cached_property
    def failures(self) -> list[Row]:
        """Return the cells that failed or diverged, each with the lines of its message."""
        if self.data.run is None:
            return []
        states = self.data.run.states
        failed = states[states["state"].isin(FAILED)]
        plain = failed.astype(object).where(failed.notna(), None)
        return [_with_lines(row) for row in plain.to_dict("records")]

    @property
    def failure_kinds(self) -> dict[str, int]:
        return dict(Counter(str(row["error_kind"] or row["state"]) for row in self.failures))


def _with_lines(row: Row) -> Row:
    message = str(row["message"] or "").strip()[:MESSAGE_LENGTH]
    first, _, rest = message.partition("\n")
    return {**row, "first": first, "rest": rest}
