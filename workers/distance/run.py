"""Running one distance: from a cell that names two sets to its row in the store.

A distance is a cell like others: with an identity, tries that are recorded, and a row that says it
is done. It trains nothing and has no checkpoint.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from workers import provenance
from workers.distance.settings import VERSION, Settings
from workers.errors import DataError, DivergedError, Problem, UserError
from workers.going import stop_if_asked
from workers.job import Job, Site
from workers.outcome import Outcome
from workers.rows import describe, versions
from workers.run import execute, open_bench
from workers.store import Row, Store

if TYPE_CHECKING:
    import torch

    from workers.bench import Bench
    from workers.datasets import Dataset
    from workers.distance.otdd import Divergence, LabelledSet
    from workers.distance.sinkhorn import Stopping, Transport


def check_solver() -> None:
    """Check that the package that solves transport problems is there.

    Raises:
        UserError: when it is not.
    """
    if importlib.util.find_spec("ot") is None:
        hint = "pip install 'rib-orchestrator[distance]'"
        raise UserError([Problem("distances", "the package POT is not installed", hint)])


def execute_distance(job: Job, site: Site, max_iterations: int) -> Outcome:
    """Try a distance once, as `workers.run.execute` tries a cell."""

    def perform(job: Job, site: Site, store: Store) -> int:
        return perform_distance(job, site, store, max_iterations)

    return execute(job, site, perform)


def perform_distance(job: Job, site: Site, store: Store, max_iterations: int) -> int:
    """Measure the distance that a job's cell stands for, and commit its row.

    Raises:
        UnconvergedError: when the solver has not reached its tolerance by then.
        DataError: when a class has a single image.
        DivergedError: when the model's features are not finite.
    """
    check_solver()
    started = datetime.now(UTC)
    bench = open_bench(job, site, store)
    from workers.distance.sinkhorn import Stopping

    settings = Settings.of(job.cell)
    pair = _Pair(bench, settings, Stopping(settings.tolerance, max_iterations))
    row = {**pair.row(), "attempt": job.attempt, "started_at": started}
    store.commit_distance({**row, "finished_at": datetime.now(UTC)})
    return 1


@dataclass(frozen=True)
class _Own:
    """A reference set's transport problem with itself, which all downstream sets share."""

    mean_cost: float
    epsilon: float
    """In the unit of the cost."""
    transport: Transport


class _Pair:
    """Two sets, and the distance between them."""

    def __init__(self, bench: Bench, settings: Settings, stopping: Stopping) -> None:
        self.bench, self.cell = bench, bench.cell
        self.settings, self.stopping = settings, stopping

    def row(self) -> Row:
        """Measure the distance and say all there is to be said of it."""
        from workers.models import weights_digest

        divergence = self._divergence()
        reference, downstream = self._reference, self._downstream
        return {
            **describe(self.cell),
            "reference": self.settings.reference,
            "value": divergence.value,
            "cross": divergence.cross.value,
            "own_reference": divergence.ours.value,
            "own_downstream": divergence.theirs.value,
            "mean_cost": self._own.mean_cost,
            "epsilon": self.settings.epsilon,
            "epsilon_unit": self.settings.unit,
            "epsilon_cost": self._own.epsilon,
            "covariance": self.settings.covariance,
            "samples_reference": len(reference),
            "samples_downstream": len(downstream),
            "images_reference": len(self._dataset(self.settings.reference)),
            "images_downstream": len(self._dataset(self._name)),
            "classes_reference": reference.n_classes,
            "classes_downstream": downstream.n_classes,
            "dimensions": reference.features.shape[1],
            "iterations": divergence.iterations,
            "marginal_error": divergence.marginal_error,
            "tolerance": self.stopping.tolerance,
            "converged": True,  # else there was an error, and no row
            "reference_digest": self._dataset(self.settings.reference).digest,
            "dataset_digest": self._dataset(self._name).digest,
            "transform_digest": self.bench.transform.digest,
            "weights_digest": weights_digest(self.cell.model, self.bench.data_root),
            "solver": f"POT {provenance.version_of('POT')}",
            "device": provenance.gpu_in_use() or self.bench.device.type,
            "host": provenance.Host.here().name,
            **versions(self.bench.site),
        }

    def _divergence(self) -> Divergence:
        from workers.distance.otdd import otdd

        own = self._own
        stop_if_asked(self.bench.store, self.bench.site.driver)
        return otdd(
            self._reference, self._downstream, own.epsilon, self.stopping, our_own=own.transport
        )

    @property
    def _name(self) -> str:
        assert self.cell.downstream is not None
        return self.cell.downstream

    @cached_property
    def _reference(self) -> LabelledSet:
        return self._labelled(self.settings.reference)

    @cached_property
    def _downstream(self) -> LabelledSet:
        return self._labelled(self._name)

    def _dataset(self, name: str) -> Dataset:
        return self.bench.dataset(name)

    @property
    def _sampling(self) -> dict[str, Any]:
        return {"samples": self.settings.samples, "seed": self.cell.seed}

    def _labelled(self, name: str) -> LabelledSet:
        """Return a set's sample in feature space.

        Raises:
            DataError: when a class has a single image.
            DivergedError: when a feature is not finite.
        """
        from workers.distance.otdd import labelled_set
        from workers.distance.sample import balanced_sample

        dataset = self._dataset(name)
        labels = self.bench.source(dataset).labels
        places = balanced_sample(labels, self.settings.samples, self.cell.seed)
        _check_classes(dataset, labels[places])
        features = self._features(dataset, places)
        if not bool(features.isfinite().all()):
            model = self.cell.model.name
            raise DivergedError(f"what {model} makes of the images of {name} is not finite")
        device = self.bench.device
        return labelled_set(
            features.to(device), labels[places].to(device), self.settings.covariance
        )

    def _features(self, dataset: Dataset, places: torch.Tensor) -> torch.Tensor:
        """Return the features of some images: those that a linear probe has, where it has been."""
        from workers.frozen import features_of
        from workers.holdout import PartOf

        bench = self.bench

        def compute() -> dict[str, torch.Tensor]:
            part = PartOf(bench.source(dataset), places)
            return {"features": features_of(bench.pretrained(), part, bench.normalise)}

        is_whole = len(places) == len(dataset)
        key = {} if is_whole else {"balanced_sample": self._sampling}
        return bench.shared_of(dataset, "features", key, compute)["features"]

    @cached_property
    def _own(self) -> _Own:
        """The reference set's own problem, solved once for all downstream sets."""
        import torch

        from workers.distance.otdd import own_transport
        from workers.distance.sinkhorn import Transport

        def compute() -> dict[str, torch.Tensor]:
            mean_cost = float(self._reference.own_cost.mean())
            epsilon = self.settings.epsilon * (mean_cost if self.settings.unit == "id-cost" else 1)
            solved = own_transport(self._reference, epsilon, self.stopping)
            values = [mean_cost, epsilon, solved.value, solved.iterations, solved.marginal_error]
            return {"own": torch.tensor(values, dtype=torch.float64)}

        key = {
            "settings": self.settings.as_hyperparameters(),
            "seed": self.cell.seed,
            "version": VERSION,
            "solver": provenance.version_of("POT"),
        }
        reference = self._dataset(self.settings.reference)
        found = self.bench.shared_of(reference, "otdd-own", key, compute)["own"].tolist()
        mean_cost, epsilon, value, iterations, marginal_error = found
        return _Own(mean_cost, epsilon, Transport(value, int(iterations), marginal_error))


def _check_classes(dataset: Dataset, labels: torch.Tensor) -> None:
    """Check that each class of a sample can have a Gaussian.

    Raises:
        DataError: naming those with a single image.
    """
    from workers.distance.gaussians import MIN_IMAGES

    classes, counts = labels.unique(return_counts=True)
    few = classes[counts < MIN_IMAGES].tolist()
    if few:
        names = ", ".join(dataset.classes.classes[k] for k in few[:5])
        message = f"{len(few)} classes have fewer than {MIN_IMAGES} images in the sample: {names}"
        hint = "raise samples of the grid's distance" if len(labels) < len(dataset) else ""
        raise DataError([Problem(f"data set {dataset.spec.name}", message, hint)])
