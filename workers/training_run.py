"""One training run as it moves: what it needs between epochs, to be saved and taken up again."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from workers.training_state import TrainingState


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of training, counted from 1."""

    epoch: int
    loss: float
    n_correct: int
    n_total: int
    lr: float
    seconds: float
    held_out_correct: int | None = None
    held_out_total: int | None = None

    @property
    def held_out_accuracy(self) -> float:
        """As a fraction; 0 when nothing is held out."""
        return (self.held_out_correct or 0) / (self.held_out_total or 1)


@dataclass
class Best:
    """The epoch of the highest held-out accuracy so far (the first of equals), and its weights."""

    epoch: int = 0
    accuracy: float = -1.0
    state: dict[str, torch.Tensor] = field(default_factory=dict)

    def take(self, record: EpochRecord, module: nn.Module) -> None:
        """Look at the end of an epoch."""
        if record.held_out_accuracy > self.accuracy:
            self.epoch, self.accuracy = record.epoch, record.held_out_accuracy
            self.state = {k: v.detach().clone() for k, v in module.state_dict().items()}

    def restore(self, module: nn.Module) -> None:
        """Give a module back the weights of the best epoch, if epochs were compared."""
        if self.state:
            module.load_state_dict(self.state)


@dataclass
class TrainingRun:
    """What changes while a module is trained."""

    module: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    order: torch.Generator
    """Shuffles the images."""
    records: list[EpochRecord] = field(default_factory=list)
    best: Best = field(default_factory=Best)

    @property
    def epochs_done(self) -> int:
        return len(self.records)

    def capture(self, method: dict[str, torch.Tensor]) -> TrainingState:
        """Return a copy of it all, with the tensors that a method keeps of its own."""
        tensors, numbers = _optimizer_state(self.optimizer)
        parts: dict[str, dict[str, torch.Tensor]] = {
            "module": self.module.state_dict(),
            "optimizer": tensors,
            "method": method,
            "best": self.best.state,
            "random": self._generators(),
        }
        return TrainingState(
            self.epochs_done,
            {
                f"{part}.{name}": tensor.detach().to("cpu", copy=True)
                for part, named in parts.items()
                for name, tensor in named.items()
            },
            {
                "optimizer": numbers,
                "scaler": self.scaler.state_dict(),
                "records": [asdict(record) for record in self.records],
                "best": {"epoch": self.best.epoch, "accuracy": self.best.accuracy},
            },
        )

    def restore(self, state: TrainingState) -> None:
        """Go back to where a state was captured."""
        self.module.load_state_dict(state.part("module"))
        _load_optimizer(self.optimizer, state.part("optimizer"), state.facts["optimizer"])
        if state.facts["scaler"]:
            self.scaler.load_state_dict(state.facts["scaler"])
        self.records = [EpochRecord(**record) for record in state.facts["records"]]
        self.best = Best(**state.facts["best"], state=state.part("best"))
        generators = state.part("random")
        self.order.set_state(generators["order"])
        torch.set_rng_state(generators["torch"])
        if "cuda" in generators and torch.cuda.is_available():
            torch.cuda.set_rng_state(generators["cuda"])

    def _generators(self) -> dict[str, torch.Tensor]:
        found = {"order": self.order.get_state(), "torch": torch.get_rng_state()}
        if torch.cuda.is_available():
            found["cuda"] = torch.cuda.get_rng_state()
        return found


def _optimizer_state(
    optimizer: torch.optim.Optimizer,
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Split an optimiser's state into tensors and the rest, both by `<parameter>.<name>`."""
    tensors: dict[str, torch.Tensor] = {}
    numbers: dict[str, Any] = {}
    for number, values in optimizer.state_dict()["state"].items():
        for name, value in values.items():
            target: dict[str, Any] = tensors if isinstance(value, torch.Tensor) else numbers
            target[f"{number}.{name}"] = value
    return tensors, numbers


def _load_optimizer(
    optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor], numbers: dict[str, Any]
) -> None:
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **numbers}.items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
