"""The one training loop. It knows no method's and no data set's name."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from timm.optim._param_groups import param_groups_layer_decay, param_groups_weight_decay
from torch import nn

from workers.errors import DivergedError
from workers.evaluate import evaluate
from workers.holdout import Batches
from workers.images import Batch, batch_indices
from workers.recipe import Recipe
from workers.scoring import Scorer
from workers.training_run import EpochRecord, TrainingRun
from workers.transfer import to_device

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Step:
    """What a loss is computed from: one (micro-)batch and what the model says to it."""

    module: nn.Module
    images: torch.Tensor
    """Normalised, [B, C, H, W], on the device."""
    labels: torch.Tensor
    """Positions in the data set's ClassMap, int64 [B]."""
    indices: torch.Tensor
    """Places in the image source, int64 [B], on the CPU."""
    logits: torch.Tensor
    """Float32 [B, n_columns]: restricted to the data set's class mask."""
    scorer: Scorer

    label_smoothing: float = 0.0

    def cross_entropy(self) -> torch.Tensor:
        """Return the recipe's loss: cross-entropy, with label smoothing if it says so."""
        return self.scorer.cross_entropy(self.logits, self.labels, smoothing=self.label_smoothing)

    def rows_of(self, kept: torch.Tensor) -> torch.Tensor:
        """Return what was kept of these images, [B, ...] of [N, ...], on the device."""
        return to_device(kept[self.indices], self.logits.device)

    def select(self, logits: torch.Tensor) -> torch.Tensor:
        """Restrict another model's logits [B, n_labels] to the same class mask, in float32."""
        return self.scorer.select(logits).float()


@dataclass(frozen=True)
class Trainer:
    """Trains modules on one image source by one recipe."""

    source: Batches
    scorer: Scorer
    normalise: Callable[[torch.Tensor], torch.Tensor]
    """uint8 pixels -> the model's input on the device."""
    recipe: Recipe
    device: torch.device
    seed: int
    micro_batches: int = 1
    """Parts that a batch is cut into to save memory; gradients add up to the whole batch's."""

    set_mode: Callable[[nn.Module], object] = nn.Module.train
    """Called before each epoch: puts the module into the mode that it is trained in."""
    after_step: Callable[[nn.Module], object] = lambda _: None
    """Called after each step of the optimiser."""
    before_first_epoch: Callable[[TrainingRun], object] = lambda _: None
    """Called once: may take the run to where an earlier try left it."""
    after_epoch: Callable[[TrainingRun], object] = lambda _: None
    """Called after each epoch, with its record."""
    held_out: Batches | None = None
    """Images that are not trained on; looked at after each epoch when the recipe has patience."""
    watch_held_out: bool = False
    """Whether they are looked at after each epoch in any case."""

    def train(self, module: nn.Module, loss: Callable[[Step], torch.Tensor]) -> list[EpochRecord]:
        """Train every parameter that requires a gradient, in place.

        Raises:
            DivergedError: when an epoch's loss, or a weight at the end, is NaN or infinite.
        """
        run = self._begin(module)
        while not self._is_over(run):
            record = self._look_at_held_out(module, self._epoch(run, loss))
            run.records.append(record)
            if self.recipe.patience is not None:
                run.best.take(record, module)
            self.after_epoch(run)
        run.best.restore(module)
        # No loss is computed after the last step, so its result is looked at by itself.
        if not all(bool(tensor.isfinite().all()) for tensor in module.parameters()):
            raise DivergedError("the weights are not finite after the last step")
        return run.records

    def _begin(self, module: nn.Module) -> TrainingRun:
        """Set a run up, where an earlier try left it if it did."""
        torch.manual_seed(self.seed)  # dropout and its like draw from the global generator
        run = TrainingRun(
            module,
            make_optimizer(module, self.recipe),
            torch.amp.GradScaler(self.device.type, enabled=self.recipe.precision == "fp16"),
            torch.Generator().manual_seed(self.seed),
        )
        self.before_first_epoch(run)
        return run

    def _is_over(self, run: TrainingRun) -> bool:
        if run.epochs_done >= self.recipe.epochs:
            return True
        patience = self.recipe.patience
        return patience is not None and run.epochs_done - run.best.epoch >= patience

    def _epoch(self, run: TrainingRun, loss: Callable[[Step], torch.Tensor]) -> EpochRecord:
        started = time.monotonic()
        module, optimizer, scaler = run.module, run.optimizer, run.scaler
        epoch = run.epochs_done + 1
        n_steps = len(batch_indices(torch.arange(len(self.source)), self.recipe.batch_size))
        self.set_mode(module)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        correct = torch.zeros((), dtype=torch.int64, device=self.device)
        lr = self.recipe.lr
        order = torch.randperm(len(self.source), generator=run.order)
        batches = self.source.batches(order, self.recipe.batch_size)
        total_steps, warmup = n_steps * self.recipe.epochs, self.recipe.n_warmup_steps(n_steps)
        for step_number, batch in enumerate(batches, start=(epoch - 1) * n_steps):
            lr = self.recipe.lr * self.recipe.lr_factor(step_number, total_steps, warmup)
            for group in optimizer.param_groups:
                group["lr"] = lr * group.get("lr_scale", 1.0)
            optimizer.zero_grad(set_to_none=True)
            for part, share in self._micro_batches(batch):
                step = self._forward(module, part)
                value = loss(step)
                scaler.scale(value * share).backward()
                total += value.detach() * len(part.labels)
                correct += self.scorer.correct(step.logits.detach(), step.labels).sum()
            self._clip(optimizer, scaler)
            scaler.step(optimizer)
            scaler.update()
            self.after_step(module)
        mean_loss = float(total) / len(self.source)
        if not torch.isfinite(torch.tensor(mean_loss)):
            raise DivergedError(f"the training loss of epoch {epoch} is {mean_loss}")
        seconds = time.monotonic() - started
        return EpochRecord(epoch, mean_loss, int(correct), len(self.source), lr, seconds)

    def _clip(self, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler) -> None:
        if self.recipe.clip_grad is not None:
            scaler.unscale_(optimizer)
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(parameters, self.recipe.clip_grad)

    def _look_at_held_out(self, module: nn.Module, record: EpochRecord) -> EpochRecord:
        """Add the held-out accuracy to an epoch's record, when anybody needs to know it."""
        is_wanted = self.watch_held_out or self.recipe.patience is not None
        if self.held_out is None or not is_wanted:
            return record
        score = evaluate(module, self.held_out, self.scorer, self.normalise)
        return replace(record, held_out_correct=score.n_correct, held_out_total=score.n_total)

    def _micro_batches(self, batch: Batch) -> list[tuple[Batch, float]]:
        """Cut a batch into parts, each with its share of the batch's mean."""
        whole = len(batch.labels)
        size = -(-whole // self.micro_batches)
        return [
            (
                Batch(
                    batch.pixels[start : start + size],
                    batch.labels[start : start + size],
                    batch.indices[start : start + size],
                ),
                min(size, whole - start) / whole,
            )
            for start in range(0, whole, size)
        ]

    def _forward(self, module: nn.Module, batch: Batch) -> Step:
        images = self.normalise(batch.pixels)
        labels = to_device(batch.labels, self.device)
        with self._autocast():
            logits = module(images)
        selected = self.scorer.select(logits).float()
        smoothing = self.recipe.label_smoothing
        return Step(module, images, labels, batch.indices, selected, self.scorer, smoothing)

    def _autocast(self) -> torch.autocast:
        dtype = DTYPES.get(self.recipe.precision)
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None)


def make_optimizer(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return the recipe's optimiser over the parameters that require a gradient.

    Groups with a `lr_scale` learn at that multiple of the schedule's rate.
    """
    parameters = parameter_groups(module, recipe)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay)
    return torch.optim.SGD(
        parameters, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )


def parameter_groups(module: nn.Module, recipe: Recipe) -> list[Any]:
    """Return what an optimiser trains, in groups of their own weight decay and learning rate.

    Grouping is timm's: vectors (norms and biases) apart from matrices, layers by
    `module.group_matcher`.
    """
    if recipe.layer_decay is not None:
        by_layer: list[Any] = param_groups_layer_decay(
            module,
            weight_decay=recipe.weight_decay,
            weight_decay_exclude_1d=not recipe.decay_norms_and_biases,
            layer_decay=recipe.layer_decay,
        )
        return by_layer
    if not recipe.decay_norms_and_biases:
        by_kind: list[Any] = param_groups_weight_decay(module, recipe.weight_decay)
        return by_kind
    return [p for p in module.parameters() if p.requires_grad]
