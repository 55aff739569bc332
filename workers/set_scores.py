"""Scoring a finished model: set by set, split by split, and what others have scored taken over.

The rows of a set are committed together. Those of splits that take long are kept until then
(`workers.scored_splits`): by an earlier try that died, by a worker that helps (`workers.helping`),
or by one that scored several cells' models in one pass. Which of them it was makes no difference
to a row's numbers.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from workers.going import stop_if_asked
from workers.predicted_sets import rows_before, score_and_predict
from workers.provenance import kind_of
from workers.rows import made_of, split_key, split_row, versions
from workers.scored_splits import Place, ScoredSplits
from workers.store import Row

if TYPE_CHECKING:
    from torch import nn

    from workers.bench import Bench
    from workers.datasets import Dataset, Split

KEEP_S = 5.0
"""Rows are kept before their set is done once scoring them took so long, in seconds."""

WAIT_S = 0.5
"""How often a row that another worker scores is looked for, in seconds."""

PATIENCE = 2.0
"""How many times longer than here a split may take another worker, before it is scored here."""

LEAST_PATIENCE_S = 10.0

logger = logging.getLogger(__name__)


class Model:
    """A cell's model on its workbench, and the rows of it that are kept."""

    def __init__(self, bench: Bench, module: nn.Module) -> None:
        self.bench, self.module = bench, module
        self.kept = ScoredSplits(bench.store.storage, bench.cell.cell_id)
        self.pending: list[tuple[Place, Row]] = []
        """Rows that are yet to be kept."""

    def find(self, dataset: Dataset, number: int) -> Row | None:
        """Return the row of a set's split, if it is kept and is as it would be made here."""
        row = self.kept.find((dataset.spec.name, number))
        if row is None:
            return None
        split, software = dataset.splits[number], versions(self.bench.site)
        made = made_of(self.bench, dataset)
        expected = {
            "cell_id": self.bench.cell.cell_id,
            **split_key(dataset, split),
            "n_total": len(split),
            "n_expected": split.n_expected,
            **{name: value for name, value in made.items() if name != "device"},
            **{name: software[name] for name in ("torch_version", "timm_version")},
        }
        is_alike = kind_of(row["device"]) == kind_of(made["device"])  # not: is the same GPU
        is_same = all(row[name] == value for name, value in expected.items())
        return row if is_alike and is_same else None

    def keep(self) -> None:
        """Keep what is yet to be kept."""
        if self.pending:
            self.kept.keep(self.pending)
            self.pending = []


def score_split(models: Sequence[Model], dataset: Dataset, number: int) -> list[Row]:
    """Score models on one of a set's splits in one pass, and return a row of each."""
    split, first, started = dataset.splits[number], models[0].bench, datetime.now(UTC)
    modules = [model.module for model in models]
    scores = first.score_together(modules, dataset, split)
    return [
        split_row(model.bench, dataset, split, score, started)
        for model, score in zip(models, scores, strict=True)
    ]


class SetScores:
    """Scores a cell's model on evaluation sets, and others' models along with it."""

    def __init__(self, model: Model, along: Sequence[Model] = ()) -> None:
        """Look what is there.

        Args:
            model: of the cell whose rows are committed.
            along: those of other cells; their rows are kept for them.
        """
        self._model, self._along = model, along
        self._kept_at = time.monotonic()
        self._pace = 0.0
        """Seconds that an image took, of the split that was the slowest."""
        for one in (model, *along):
            one.kept.look()
        model.kept.withdraw()

    def commit(self, name: str) -> int:
        """Score every split of an evaluation set and commit the rows together.

        Predictions that are asked for come first: where the rows are, they are, too. A set that
        was scored before keeps its rows.

        Returns:
            How many rows were committed.
        """
        bench = self._model.bench
        dataset = bench.dataset(name)
        if name in bench.site.predictions:
            rows = score_and_predict(bench, self._model.module, dataset, self._before)
        else:
            rows = [self._row(dataset, number) for number in range(len(dataset.splits))]
        correct, total = (sum(row[key] for row in rows) for key in ("n_correct", "n_total"))
        logger.info("%s: %d of %d images right", name, correct, total)
        if name in bench.job.scored:
            return 0
        bench.store.commit_accuracy(bench.cell.cell_id, name, rows)
        self._model.pending = []
        return len(rows)

    @cached_property
    def _before(self) -> list[Row]:
        return rows_before(self._model.bench.job, self._model.bench.store)

    def close(self) -> None:
        """Leave to the others what is theirs, and nothing of one's own."""
        for other in self._along:
            other.keep()
        self._model.kept.clear()

    def _row(self, dataset: Dataset, number: int) -> Row:
        kept, place = self._model.kept, (dataset.spec.name, number)
        if kept.claims or time.monotonic() - kept.looked_at > KEEP_S:
            kept.look()
        row = self._model.find(dataset, number)
        if row is None and place in kept.claims:
            row = self._await(dataset, number)
        return self._score(dataset, number) if row is None else row

    def _await(self, dataset: Dataset, number: int) -> Row | None:
        """Wait for a split that another worker scores; None when it takes too long."""
        bench, kept = self._model.bench, self._model.kept
        place, split = (dataset.spec.name, number), dataset.splits[number]
        patience = max(LEAST_PATIENCE_S, PATIENCE * self._pace * len(split))
        if kept.claimed_on(place) != kind_of(made_of(bench, dataset)["device"]):
            return None  # its row would not be what it is here
        until = time.monotonic() + patience
        while time.monotonic() < until and kept.is_claimed(place):
            stop_if_asked(bench.store, bench.site.driver)
            time.sleep(WAIT_S)
            kept.look()
            row = self._model.find(dataset, number)
            if row is not None:
                return row
        return None

    def _score(self, dataset: Dataset, number: int) -> Row:
        others = [other for other in self._along if other.find(dataset, number) is None]
        started = time.monotonic()
        row, *rows = score_split([self._model, *others], dataset, number)
        self._note_pace(dataset.splits[number], time.monotonic() - started)
        for one, its in zip((self._model, *others), (row, *rows), strict=True):
            one.pending.append(((dataset.spec.name, number), its))
        if self._model.kept.claims or time.monotonic() - self._kept_at > KEEP_S:
            self._keep()
        return row

    def _note_pace(self, split: Split, seconds: float) -> None:
        self._pace = max(self._pace, seconds / max(1, len(split)))

    def _keep(self) -> None:
        bench = self._model.bench
        for one in (self._model, *self._along):
            one.keep()
        self._kept_at = time.monotonic()
        stop_if_asked(bench.store, bench.site.driver)
