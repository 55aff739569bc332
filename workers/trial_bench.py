"""The workbench of a trial: it watches the held-out images and leaves nothing of its own behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from workers.bench import Bench
from workers.job import Job, Site
from workers.methods import FineTuning
from workers.models import State
from workers.store import Store
from workers.training_run import EpochRecord, TrainingRun


class TrialBench(Bench):
    """Trains as a cell's workbench does, and tells of each epoch."""

    watches_held_out: ClassVar[bool] = True

    def __init__(
        self,
        job: Job,
        site: Site,
        store: Store,
        after_epoch: Callable[[Sequence[EpochRecord]], None],
    ) -> None:
        super().__init__(job, site, store)
        self.after_epoch = after_epoch

    def save(self, name: str, state: State) -> None:
        """Keep nothing: the store has the weights of cells, not of trials."""

    def _take_up(self, run: TrainingRun, objective: FineTuning) -> None:
        """Start from the beginning: what is compared is a whole run."""

    def _keep(self, run: TrainingRun, objective: FineTuning) -> None:  # noqa: ARG002
        self.after_epoch(run.records)
