"""Scoring a model in the middle of its training, which is no different for it."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from torch import nn

from workers.curve import Curve, part_of, some_of
from workers.evaluate import undisturbed
from workers.going import stop_if_asked
from workers.rows import score
from workers.tables import DamagedTableError, read_file

if TYPE_CHECKING:
    from workers.bench import Bench
    from workers.datasets import Dataset


class CurveRecorder:
    """Commits a cell's rows epoch by epoch, each set's as they come, and none twice."""

    def __init__(self, bench: Bench, curve: Curve, last: int) -> None:
        """Record on a workbench.

        Args:
            bench: of the cell that is trained.
            curve: what is asked for.
            last: the last epoch of the recipe.
        """
        self.bench, self.curve = bench, curve
        self.epochs = frozenset(curve.epochs(last))
        self._part = cache(lambda name: some_of(bench.dataset(name), curve.fraction, curve.seed))

    def record(self, module: nn.Module, epoch: int) -> None:
        """Score the model as it is after an epoch on what is asked for and not in the store yet.

        Raises:
            PreemptedError: between two sets, when the driver asked to stop.
        """
        if epoch not in self.epochs:
            return
        bench = self.bench
        for name in self.curve.sets:
            part = self._part(name)
            if self._is_there(part, epoch):
                continue
            stop_if_asked(bench.store, bench.site.driver)
            with undisturbed(module):
                rows = score(
                    bench,
                    module,
                    part,
                    epoch=epoch,
                    dataset_digest=bench.dataset(name).digest,
                    subset_fraction=self.curve.fraction,
                    subset_seed=self.curve.seed,
                    subset_digest=part.digest,
                )
            bench.store.commit_accuracy(bench.cell.cell_id, part_of(name, epoch), rows)

    def _is_there(self, part: Dataset, epoch: int) -> bool:
        """Whether the rows of a set's images after an epoch are in the store.

        They are from an earlier run, as the driver knows, or from an earlier try of this one.
        """
        name = part.spec.name
        if (name, epoch) in self.bench.job.recorded:
            return True
        file = f"accuracy/{self.bench.cell.cell_id}.{part_of(name, epoch)}.parquet"
        try:
            rows = read_file(self.bench.store.storage, "accuracy", file)
        except (FileNotFoundError, DamagedTableError):
            return False
        digests: list[str] = rows["subset_digest"].unique().to_pylist()
        return digests == [part.digest]
