"""What a method is: how a cell's model comes to be.

To add a method, add a file to this package with a subclass of `Method` (one that makes its model
from its parents' weights) or of `FineTuning` (one that trains). Nothing else needs to know.

The files of this package import torch only inside their functions: the driver reads their configs
and names while it plans, without a model in sight.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import torch
    from torch import nn

    from workers.datasets import Dataset
    from workers.images import ImageSource
    from workers.train import Step


class MethodConfig(BaseModel):
    """A method's hyper-parameters: frozen, every one with a default, unknown ones refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Workbench(Protocol):
    """What a worker gives a method to work with. `workers.bench` has the real one."""

    device: torch.device

    def pretrained(self) -> nn.Module:
        """Return a fresh copy of the pre-trained model, on the device, in eval mode."""

    def parents(self) -> list[dict[str, torch.Tensor]]:
        """Return the parents' state dicts on the CPU, in the order of `Method.starts_from`."""

    def downstream(self) -> tuple[Dataset, ImageSource]:
        """Return the data set that this cell is fine-tuned on, and its images."""

    def id_train(self) -> tuple[Dataset, ImageSource]:
        """Return the suite's ID images that no evaluation uses.

        Raises:
            DataError: when the suite has none.
        """

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """Turn uint8 pixels [B, C, H, W] into the model's input on the device."""

    def seed(self, purpose: str) -> int:
        """Return the seed of one of the cell's generators."""

    def train(self, module: nn.Module, objective: FineTuning) -> None:
        """Train a module on the downstream set by the cell's recipe, in place."""


class Method(ABC):
    """One way of making a model from a pre-trained one.

    Subclasses that have a `name` are registered under it. `version` is part of every cell's
    identity: bump it when the method's numbers change.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    Config: ClassVar[type[MethodConfig]] = MethodConfig
    trains: ClassVar[bool] = False
    """Whether the recipe and the seed decide its numbers."""
    relative_cost: ClassVar[float] = 0.0
    """Cost of training on an image, with plain fine-tuning as 1."""

    registered: ClassVar[dict[str, type[Method]]] = {}

    def __init_subclass__(cls) -> None:
        if "name" in cls.__dict__:
            taken = Method.registered.get(cls.name)
            if taken is not None and taken.__module__ != cls.__module__:
                raise TypeError(f"two methods are named {cls.name!r}: {taken} and {cls}")
            Method.registered[cls.name] = cls

    def __init__(self, config: MethodConfig) -> None:
        self.config = config

    @classmethod
    def starts_from(cls, config: MethodConfig) -> tuple[str, ...]:  # noqa: ARG003 (for overrides)
        """Return the methods (by their names in the grid) whose weights this one starts from.

        Their cells have the same model, downstream set and seed.
        """
        return ()

    @abstractmethod
    def build(self, bench: Workbench) -> nn.Module:
        """Return the model that this cell is evaluated as."""


class FineTuning(Method):
    """A method that trains on the downstream set: hooks that the one training loop calls."""

    trains: ClassVar[bool] = True
    relative_cost: ClassVar[float] = 1.0

    def build(self, bench: Workbench) -> nn.Module:
        module = bench.pretrained()
        self.prepare(module, bench)
        bench.train(module, self)
        return module

    def prepare(self, module: nn.Module, bench: Workbench) -> None:
        """Set up what the loss needs, before the first step. `module` is still pre-trained."""

    def loss(self, step: Step) -> torch.Tensor:
        """Return what is minimised on a batch: the cross-entropy, unless a method adds to it."""
        return step.cross_entropy()
