"""The workbench of one cell: its model, its data and its generators, on this machine."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from workers import provenance
from workers.augment import AugmentedSource
from workers.cell import digest
from workers.curve_recorder import CurveRecorder
from workers.datasets import Dataset, Split, read_dataset
from workers.errors import DataError, LostCheckpointError, PreemptedError, Problem, UserError
from workers.evaluate import BATCH_SIZE, Score, evaluate, evaluate_together
from workers.frozen import TensorSource, features_of, logits_of
from workers.going import may_go_on
from workers.holdout import Batches, PartOf, split_off
from workers.images import ImageSource, Transform
from workers.job import Job, Site
from workers.leave_out import without_undecodable
from workers.methods import FineTuning, Method
from workers.models import (
    DamagedStateError,
    State,
    load_pretrained,
    pack_with_digest,
    state_of,
    transform_of,
    unpack_state,
)
from workers.paths import place_here
from workers.pixel_cache import PixelCache
from workers.predictions import PredictionFile, Seen
from workers.recipe import Recipe
from workers.scoring import Scorer
from workers.shared import SharedWork
from workers.store import CHECKPOINT, Store
from workers.suites import Suite, suites
from workers.train import Trainer
from workers.training_run import EpochRecord, TrainingRun
from workers.training_state import TrainingStates
from workers.transfer import to_device

logger = logging.getLogger(__name__)


class Bench:
    """The Workbench that methods get (see `workers.methods.base`), and the way to score a model."""

    watches_held_out: ClassVar[bool] = False
    """Whether training looks at the held-out images after every epoch."""

    def __init__(self, job: Job, site: Site, store: Store) -> None:
        self.cell, self.job, self.site, self.store = job.cell, job, site, store
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.data_root = place_here(site.data_root)
        self.history: list[EpochRecord] = []
        self.curve: CurveRecorder | None = None
        if job.curve is not None and job.cell.recipe is not None:
            self.curve = CurveRecorder(self, job.curve, job.cell.recipe["epochs"])

    @cached_property
    def suite(self) -> Suite:
        return suites()[self.cell.suite]

    @property
    def input_size(self) -> tuple[int, int, int]:
        return self.transform.input_size

    @cached_property
    def transform(self) -> Transform:
        return transform_of(self.cell.model, self._loaded)

    @cached_property
    def _loaded(self) -> nn.Module:
        return load_pretrained(self.cell.model, self.data_root)

    @cached_property
    def _pretrained_state(self) -> State:
        return state_of(self._loaded)

    def pretrained(self) -> nn.Module:
        # A model has no copy method that keeps tied weights tied, so a copy is loaded afresh.
        module = load_pretrained(self.cell.model, self.data_root)
        return module.to(self.device)

    def parents(self) -> list[State]:
        return [
            self._pretrained_state if parent.is_baseline else self.checkpoint(parent.cell_id)
            for parent in self.cell.parents
        ]

    def checkpoint(self, cell_id: str) -> State:
        """Read a finished cell's weights from the store.

        Raises:
            LostCheckpointError: when they are not there, or not whole; then they are set aside.
        """
        try:
            return unpack_state(self.store.read_artifact(cell_id, CHECKPOINT))
        except FileNotFoundError as error:
            raise LostCheckpointError(cell_id, "it is not there") from error
        except DamagedStateError as error:
            self.store.set_aside([f"artifacts/{cell_id}/{CHECKPOINT}"])
            raise LostCheckpointError(cell_id, str(error)) from error

    def restore(self, method: Method) -> nn.Module:
        """Return this cell's model as an earlier try left it."""
        module = method.assemble(self.pretrained(), self).to(self.device)
        module.load_state_dict(self.checkpoint(self.cell.cell_id))
        return module

    def dataset(self, name: str) -> Dataset:
        """Read a data set to score a model on."""
        return self._read(name, name in self.site.skip_undecodable)

    def _read(self, name: str, skip_undecodable: bool = False) -> Dataset:
        n_images = self.site.accept_images.get(name)
        if skip_undecodable:
            threads = max(1, self._loader_workers)
            return _read_sound(self.cell.suite, name, self.data_root, n_images, threads)
        return _read(self.cell.suite, name, self.data_root, n_images)

    def source(self, dataset: Dataset, splits: Sequence[Split] | None = None) -> ImageSource:
        cache, pinned = self._pixel_cache, self.device.type == "cuda"
        return ImageSource(dataset, self.transform, splits, self._loader_workers, cache, pinned)

    @property
    def _pixel_cache(self) -> PixelCache | None:
        site = self.site
        if not site.image_cache:
            return None
        return PixelCache(place_here(site.image_cache), site.image_cache_bytes)

    @property
    def _loader_workers(self) -> int:
        return self.job.loader_workers_at(self.site)

    def downstream(self) -> tuple[Dataset, ImageSource]:
        assert self.cell.downstream is not None, f"{self.cell} is not fine-tuned on anything"
        dataset = self._read(self.cell.downstream, self.cell.skip_undecodable)
        return dataset, self.source(dataset)

    def id_train(self) -> tuple[Dataset, ImageSource]:
        spec = self.suite.id_train
        if spec is None:
            message = "has no ID images that nothing is tested on"
            raise DataError([Problem(f"suite {self.suite.name}", message)])
        dataset = self._read(spec.name)
        return dataset, self.source(dataset)

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.transform.normalise(to_device(pixels, self.device))

    def seed(self, purpose: str) -> int:
        return self.cell.derive_seed(purpose)

    def shared(self, what: str, key: Mapping[str, Any], compute: Callable[[], State]) -> State:
        dataset, _ = self.downstream()
        return self.shared_of(dataset, what, key, compute)

    def shared_of(
        self, dataset: Dataset, what: str, key: Mapping[str, Any], compute: Callable[[], State]
    ) -> State:
        """Return tensors that are the same for whoever has this model, data set and key."""
        decides = {
            "model": self.cell.model.identity(),
            "transform": self.transform.digest,
            # By name, too: Cartoon and Drawing have the same file names and so the same digest.
            "dataset": [
                self.cell.suite,
                self.cell.suite_version,
                dataset.spec.name,
                dataset.digest,
            ],
            "device": provenance.kind_of(provenance.gpu_in_use()) or self.device.type,
            "threads": self.site.threads,
            "torch": torch.__version__,
            **key,
        }
        return SharedWork(self.store).get(what, decides, compute)

    def frozen_features(self) -> torch.Tensor:
        def compute() -> State:
            _, source = self.downstream()
            return {"features": features_of(self.pretrained(), source, self.normalise)}

        return self.shared("features", {}, compute)["features"]

    def frozen_logits(self) -> torch.Tensor:
        def compute() -> State:
            dataset, source = self.downstream()
            select = Scorer(dataset.classes, self.device).select
            return {"logits": logits_of(self.pretrained(), source, self.normalise, select)}

        return self.shared("logits", {}, compute)["logits"]

    def save(self, name: str, state: State) -> None:
        on_cpu = {key: tensor.detach().cpu() for key, tensor in state.items()}
        self.store.save_artifact(self.cell.cell_id, name, pack_with_digest(on_cpu))

    def held_out_score(self, module: nn.Module) -> Score:
        dataset, images = self.downstream()
        trained = (self.cell, *self.cell.ancestors)
        parts = {cell.recipe["holdout"] for cell in trained if cell.recipe is not None}
        if len(parts) != 1 or 0 in parts:
            message = f"the recipes that it is made by hold out {sorted(parts)}"
            raise UserError([Problem(str(self.cell), message, "give them one holdout above 0")])
        _, held_out = self._split(images.labels, *parts)
        scorer = Scorer(dataset.classes, self.device)
        return evaluate(module, PartOf(images, held_out), scorer, self.normalise)

    def _split(self, labels: torch.Tensor, holdout: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Return which images are trained on and which are held out; cells of a set agree."""
        seed = int(digest([self.cell.suite, self.cell.downstream, holdout], 15), 16)
        return split_off(labels, holdout, seed)

    def train(
        self, module: nn.Module, objective: FineTuning, inputs: torch.Tensor | None = None
    ) -> None:
        dataset, images = self.downstream()
        recipe = objective.recipe(Recipe.model_validate(self.cell.recipe))
        as_they_are = images if inputs is None else TensorSource(inputs, images.labels)
        source: Batches = as_they_are
        held_out: Batches | None = None
        if recipe.augment is not None:
            seed = self.seed("augment")
            source = AugmentedSource(images, self.transform, recipe.augment, seed)
        if recipe.holdout:
            trained_on_places, held_out_places = self._split(images.labels, recipe.holdout)
            source = PartOf(source, trained_on_places)
            held_out = PartOf(as_they_are, held_out_places)
        trainer = Trainer(
            source=source,
            held_out=held_out,
            watch_held_out=self.watches_held_out,
            scorer=Scorer(dataset.classes, self.device),
            normalise=self.normalise if inputs is None else self._to_device,
            recipe=recipe,
            device=self.device,
            seed=self.seed("train"),
            micro_batches=self.job.micro_batches_at(self.site),
            set_mode=objective.set_mode,
            after_step=objective.after_step,
            before_first_epoch=lambda run: self._take_up(run, objective),
            after_epoch=lambda run: self._keep(run, objective),
        )
        self.history = trainer.train(module, objective.loss)

    @cached_property
    def states(self) -> TrainingStates:
        """What earlier tries at training this cell have left, and this one leaves."""
        return TrainingStates(self.store, self.cell.cell_id, self.site.state_seconds)

    def _take_up(self, run: TrainingRun, objective: FineTuning) -> None:
        state = self.states.latest()
        if state is not None:
            run.restore(state)
            objective.load_state(state.part("method"))
        self._record(run, objective)

    def _keep(self, run: TrainingRun, objective: FineTuning) -> None:
        record = run.records[-1]
        logger.info(
            "epoch %d: loss %.4f, %d of %d right, learning rate %.3g, %.1f s",
            *(record.epoch, record.loss, record.n_correct, record.n_total),
            *(record.lr, record.seconds),
        )
        goes_on = may_go_on(self.store, self.site.driver)
        if self.states.is_due or not goes_on:
            self.states.save(run.capture(objective.state()))
        if not goes_on:
            raise PreemptedError(f"its driver asked it to stop after epoch {run.epochs_done}")
        self._record(run, objective)

    def _record(self, run: TrainingRun, objective: FineTuning) -> None:
        """Score the model as it is now, if that is asked for and was not done before.

        Done whenever a run begins, too: an earlier try may have saved this state and died then.
        """
        if self.curve is not None:
            self.curve.record(objective.evaluated(run.module), run.epochs_done)

    def _to_device(self, inputs: torch.Tensor) -> torch.Tensor:
        return to_device(inputs, self.device)

    def score(
        self,
        module: nn.Module,
        dataset: Dataset,
        split: Split,
        predictions: PredictionFile | None = None,
    ) -> Score:
        """Evaluate a model on one split, perhaps keeping what it predicts of each image."""
        if predictions is None:
            (score,) = self.score_together([module], dataset, split)
            return score
        scorer = Scorer(dataset.classes, self.device)
        seen = Seen(scorer, predictions.masks, predictions.top)
        source = self.source(dataset, [split])
        score = evaluate(module, source, scorer, self.normalise, self._batch_size, seen)
        predictions.add(split, seen.columns())
        return score

    def score_together(
        self, modules: Sequence[nn.Module], dataset: Dataset, split: Split
    ) -> list[Score]:
        """Evaluate models that take the same images on one split, each image decoded once."""
        scorer = Scorer(dataset.classes, self.device)
        source = self.source(dataset, [split])
        return evaluate_together(modules, source, scorer, self.normalise, self._batch_size)

    @property
    def _batch_size(self) -> int:
        # What did not fit into a GPU's memory while training may not fit while scoring either.
        return max(1, BATCH_SIZE // self.job.micro_batches)


@lru_cache(maxsize=64)
def _read(suite: str, name: str, data_root: Path, n_images: int | None) -> Dataset:
    """Read a data set's folders once per worker process."""
    found = suites()[suite].with_images({} if n_images is None else {name: n_images})
    return read_dataset(found, found.dataset(name), data_root)


@lru_cache(maxsize=64)
def _read_sound(
    suite: str, name: str, data_root: Path, n_images: int | None, threads: int
) -> Dataset:
    """Find the images of a data set that decode once per worker process."""
    return without_undecodable(_read(suite, name, data_root, n_images), threads)
