"""A model, a data set and a workbench small enough to check a method on by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from workers.evaluate import Score, evaluate
from workers.frozen import TensorSource, features_of, logits_of
from workers.holdout import Batches
from workers.images import Batch, batch_indices
from workers.labels import ClassMap
from workers.methods import FineTuning
from workers.recipe import Recipe
from workers.scoring import Scorer
from workers.train import EpochRecord, Step, Trainer

N_LABELS = 6
COLUMNS = [1, 2, 4]
CLASSES = ClassMap(("x", "y", "z"), ((4,), (1,), (2,)), N_LABELS)
"""Three of six labels, in another order than theirs."""
TARGETS = [2, 0, 1]
"""Where class 0, 1, 2 of CLASSES stands among COLUMNS, written out."""
CPU = torch.device("cpu")
RECIPE = Recipe(lr=0.1, warmup_steps=0, epochs=2, batch_size=8, precision="fp32")


def toy(seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Module:
    """A network without BatchNorm or dropout for pictures of 3 x 4 x 4."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 5), nn.Tanh(), nn.Linear(5, N_LABELS)).to(
        dtype
    )


def toy_with_batchnorm(seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Module:
    """A network with BatchNorm whose running statistics are not those of any batch."""
    torch.manual_seed(seed)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(), nn.Linear(16, N_LABELS)
    ).to(dtype)
    norm = module[1]
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.uniform_(-0.3, 0.3)
    norm.running_var.uniform_(0.3, 1.5)
    return module.eval()


class ToyNet(nn.Module):
    """A network with BatchNorm and with timm's ways to ask for features and the classifier."""

    def __init__(self, seed: int = 0, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.stem = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(16, N_LABELS)
        assert self.norm.running_mean is not None
        self.norm.running_mean.uniform_(-0.3, 0.3)
        self.to(dtype).eval()

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.norm(self.stem(images)).tanh()
        return features

    def forward_head(self, features: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        flat = features.flatten(1)
        return flat if pre_logits else self.head(flat)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.forward_head(self.forward_features(images))

    def get_classifier(self) -> nn.Module:
        return self.head


def normalise(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.float() / 255 - 0.5


def normalise64(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.double() / 255 - 0.5


@dataclass
class MemorySource:
    """Random pictures with random labels; remembers which were asked for, batch by batch."""

    n: int = 21
    n_classes: int = 3
    asked: list[torch.Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(7)
        shape = (self.n, 3, 4, 4)
        self.pixels = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        self.labels = torch.randint(0, self.n_classes, (self.n,), generator=generator)

    def __len__(self) -> int:
        return self.n

    def batches(self, order: torch.Tensor, batch_size: int) -> Iterator[Batch]:
        for part in batch_indices(order, batch_size):
            self.asked.append(part)
            yield Batch(self.pixels[part], self.labels[part], part)


@dataclass
class ToyBench:
    """A Workbench around one module in memory."""

    module: nn.Module
    source: MemorySource = field(default_factory=MemorySource)
    id_source: MemorySource = field(default_factory=lambda: MemorySource(n=5))
    states: list[dict[str, torch.Tensor]] = field(default_factory=list)
    device: torch.device = CPU
    recipe: Recipe = RECIPE
    held_out: Batches | None = None
    saved: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict)
    history: list[EpochRecord] = field(default_factory=list)
    input_size: tuple[int, int, int] = (3, 4, 4)

    def pretrained(self) -> nn.Module:
        return copy.deepcopy(self.module).eval()

    def parents(self) -> list[dict[str, torch.Tensor]]:
        return self.states

    def downstream(self) -> tuple[SimpleNamespace, MemorySource]:
        return SimpleNamespace(classes=CLASSES), self.source

    def frozen_features(self) -> torch.Tensor:
        return features_of(self.pretrained(), self.source, self.normalise)

    def frozen_logits(self) -> torch.Tensor:
        module = self.pretrained()
        return logits_of(module, self.source, self.normalise, lambda logits: logits[:, COLUMNS])

    def id_train(self) -> tuple[SimpleNamespace, MemorySource]:
        return SimpleNamespace(digest="of the ID images"), self.id_source

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        parameter = next(self.module.parameters())
        return normalise64(pixels).to(parameter.dtype)

    def seed(self, purpose: str) -> int:
        return len(purpose)

    def save(self, name: str, state: dict[str, torch.Tensor]) -> None:
        self.saved[name] = {key: tensor.detach().clone() for key, tensor in state.items()}

    def train(
        self, module: nn.Module, objective: FineTuning, inputs: torch.Tensor | None = None
    ) -> None:
        dtype = next(self.module.parameters()).dtype
        trainer = Trainer(
            self.source if inputs is None else TensorSource(inputs, self.source.labels),
            Scorer(CLASSES, CPU),
            self.normalise if inputs is None else lambda features: features.to(dtype),
            objective.recipe(self.recipe),
            CPU,
            self.seed("train"),
            set_mode=objective.set_mode,
            after_step=objective.after_step,
        )
        self.history = trainer.train(module, objective.loss)

    def held_out_score(self, module: nn.Module) -> Score:
        assert self.held_out is not None
        return evaluate(module, self.held_out, Scorer(CLASSES, CPU), self.normalise)

    def shared(
        self, what: str, key: Mapping[str, Any], compute: Callable[[], dict[str, torch.Tensor]]
    ) -> dict[str, torch.Tensor]:
        return compute()


def step_of(module: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> Step:
    """What the training loop would hand to a loss, in the module's own precision."""
    scorer = Scorer(CLASSES, CPU)
    logits = module(images)[:, COLUMNS]
    return Step(module, images, labels, torch.arange(len(labels)), logits, scorer)


def plain_cross_entropy(
    module: nn.Module, images: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """Cross-entropy over the class mask, from its definition."""
    logits = module(images)[:, COLUMNS]
    targets = torch.tensor(TARGETS)[labels]
    right = logits.exp()[torch.arange(len(labels)), targets]
    return -(right / logits.exp().sum(dim=1)).log().mean()


class PlainSGD:
    """SGD with momentum, from its definition: v <- m v + g; theta <- theta - lr v."""

    def __init__(self, module: nn.Module, momentum: float) -> None:
        self.parameters = list(module.parameters())
        self.momentum = momentum
        self.velocity = [torch.zeros_like(p) for p in self.parameters]

    def step(self, loss: torch.Tensor, lr: float) -> None:
        gradients = torch.autograd.grad(loss, self.parameters)
        with torch.no_grad():
            for p, v, g in zip(self.parameters, self.velocity, gradients, strict=True):
                v.mul_(self.momentum).add_(g)
                p.sub_(lr * v)
