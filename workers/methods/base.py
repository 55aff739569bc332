"""What a method is: how a cell's model comes to be.

To add a method, add a file to this package with a subclass of `Method` (one that makes its model
from its parents' weights) or of `FineTuning` (one that trains). Nothing else needs to know.

The files of this package import torch only inside their functions: the driver reads their configs
and names while it plans, without a model in sight.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict

from workers.recipe import Recipe

if TYPE_CHECKING:
    import torch
    from torch import nn

    from workers.datasets import Dataset
    from workers.evaluate import Score
    from workers.images import ImageSource
    from workers.train import Step


class MethodConfig(BaseModel):
    """A method's hyper-parameters: frozen, every one with a default, unknown ones refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Workbench(Protocol):
    """What a worker gives a method to work with. `workers.bench` has the real one."""

    device: torch.device

    @property
    def input_size(self) -> tuple[int, int, int]:
        """Channels, height and width of the images that the model takes."""

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

    def train(
        self, module: nn.Module, objective: FineTuning, inputs: torch.Tensor | None = None
    ) -> None:
        """Train a module on the downstream set by the cell's recipe, in place.

        Args:
            module: what is trained.
            objective: the method, whose hooks the loop calls.
            inputs: [N, ...] on the CPU, what `module` takes in place of each image.
        """

    def frozen_features(self) -> torch.Tensor:
        """Return what the pre-trained model's head makes its logits from: float32 [N, D], CPU.

        One row per image of the downstream set, in eval mode. Every cell of a model and set has
        the same: whoever needs it first computes it.
        """

    def frozen_logits(self) -> torch.Tensor:
        """Return the pre-trained model's logits over the set's class mask: float32 [N, C], CPU.

        Shared between cells as the features are.
        """

    def held_out_score(self, module: nn.Module) -> Score:
        """Score a model on the part of the downstream set that it and its parents never saw.

        Never a test set: choosing by one would make it a training set.

        Raises:
            UserError: when their recipes hold nothing out, or not the same.
        """

    def save(self, name: str, state: dict[str, torch.Tensor]) -> None:
        """Put tensors into the store under a name, beside the cell's checkpoint."""

    def shared(
        self, what: str, key: Mapping[str, Any], compute: Callable[[], dict[str, torch.Tensor]]
    ) -> dict[str, torch.Tensor]:
        """Return tensors that are the same for every cell with this model, set and key."""


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
    """What `cost` says, unless its configuration matters."""
    shares: ClassVar[str | None] = None
    """What `shared_pass` says, unless its configuration matters."""

    keeps_architecture: ClassVar[bool] = True
    """Whether its weights fit the pre-trained model's own architecture, as soups need them to."""
    expands: ClassVar[str | None] = None
    """The hyper-parameter for which a grid may give a list: a cell for each of its values."""

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

        Their cells have the same model and downstream set, and the same seed unless `seeds` says
        otherwise.
        """
        return ()

    @classmethod
    def cost(cls, config: MethodConfig) -> float:  # noqa: ARG003 (for overrides)
        """Return the cost of training on an image, with plain fine-tuning as 1."""
        return cls.relative_cost

    @classmethod
    def shared_pass(cls, config: MethodConfig) -> str | None:  # noqa: ARG003 (for overrides)
        """Return what it takes from the pre-trained model's one pass over the set, if it does."""
        return cls.shares

    @classmethod
    def seeds(cls, config: MethodConfig) -> tuple[int, ...]:  # noqa: ARG003 (for overrides)
        """Return the seeds of the cells that this one starts from; none for its own seed.

        A method that names seeds has one cell in a grid, however many seeds that has.
        """
        return ()

    @classmethod
    def reads_id_train(cls, config: MethodConfig) -> bool:  # noqa: ARG003 (for overrides)
        """Say whether it reads the suite's ID images that no evaluation uses."""
        return False

    @classmethod
    def unfit(cls, config: MethodConfig, module: nn.Module) -> str:  # noqa: ARG003 (for overrides)
        """Say why this method cannot be used on an architecture; nothing when it can.

        Args:
            config: its hyper-parameters.
            module: a model of the architecture, perhaps without weights (on the meta device).
        """
        return ""

    @classmethod
    def unsuited(cls, config: MethodConfig, recipe: Recipe) -> str:
        """Say why this method cannot be used with a recipe; nothing when it can."""
        if cls.shared_pass(config) is not None and recipe.augment is not None:
            return "what it takes from the pre-trained model is of images without augmentation"
        return ""

    def assemble(self, module: nn.Module, bench: Workbench) -> nn.Module:  # noqa: ARG002
        """Return the module that this method's checkpoints fit, around a pre-trained model."""
        return module

    @abstractmethod
    def build(self, bench: Workbench) -> nn.Module:
        """Return the model that this cell is evaluated as."""


class FineTuning(Method):
    """A method that trains on the downstream set: hooks that the one training loop calls."""

    trains: ClassVar[bool] = True
    relative_cost: ClassVar[float] = 1.0

    def build(self, bench: Workbench) -> nn.Module:
        module = self.start(bench)
        self.prepare(module, bench)
        bench.train(module, self)
        return self.finish(module)

    def recipe(self, recipe: Recipe) -> Recipe:
        """Return the recipe that this method trains by: the cell's, or one that it adapts."""
        return recipe

    def start(self, bench: Workbench) -> nn.Module:
        """Return the model that training starts from: the pre-trained one."""
        return bench.pretrained()

    def prepare(self, module: nn.Module, bench: Workbench) -> None:
        """Set up what the loss needs, and freeze what is not trained, before the first step."""

    def set_mode(self, module: nn.Module) -> None:
        """Put the module into the mode that it is trained in, before each epoch."""
        module.train()

    def after_step(self, module: nn.Module) -> None:
        """Look at the weights after each step of the optimiser."""

    def state(self) -> dict[str, torch.Tensor]:
        """Return what the method keeps between epochs that cannot be prepared again."""
        return {}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Go on from what `state` returned in an earlier try, on the CPU."""

    def evaluated(self, module: nn.Module) -> nn.Module:
        """Return the model that would be evaluated if training ended where it is, unchanged.

        Args:
            module: what is trained.
        """
        return module

    def finish(self, module: nn.Module) -> nn.Module:
        """Return the model that is evaluated, after the last step."""
        return module

    def loss(self, step: Step) -> torch.Tensor:
        """Return what is minimised on a batch: the cross-entropy, unless a method adds to it."""
        return step.cross_entropy()
