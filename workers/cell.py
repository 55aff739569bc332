"""What one cell of the benchmark is, and the id that its numbers are filed under.

Standard library only: the driver plans a hundred thousand of these without importing torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any

BASELINE = "pretrained"
"""The method of a model as it came; its cell has no downstream set."""


def canonical_json(value: Any) -> str:
    """Serialise to the one JSON text that equal values share (sorted keys, no spaces).

    Raises:
        ValueError: for NaN and infinities, which JSON does not have.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )


def digest(value: Any, length: int = 16) -> str:
    """Return the first `length` hex digits of the SHA-256 of a value's canonical JSON."""
    return digest_of_json(canonical_json(value), length)


def digest_of_json(text: str, length: int = 16) -> str:
    """Return the digest of a value whose canonical JSON is known."""
    return hashlib.sha256(text.encode()).hexdigest()[:length]


_quoted = json.encoder.encode_basestring_ascii


@dataclass(frozen=True)
class Model:
    """A pre-trained model: an architecture and the weights that fill it.

    `name`, `pretraining` and `file` only label and locate it; the rest decides its numbers.
    """

    name: str
    architecture: str
    """A timm model name, with its tag if `weights` is that tag."""
    weights: str
    """`timm:<name>` for published weights, `sha256:<hex>` for a file, or where a grid pins one."""
    pretraining: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of `timm.create_model`."""
    transform: Mapping[str, Any] = field(default_factory=dict)
    """The evaluation transform: input_size, crop_pct, crop_mode, interpolation, mean, std. A plan
    has all of it, so that another timm cannot change it; what is left out is timm's."""
    file: str | None = None
    """The weights file; a relative path starts at the data root."""
    key: str | None = None
    """Which state dict of a training checkpoint is meant, where the file holds several."""

    def identity(self) -> dict[str, Any]:
        entry = {} if self.key is None else {"key": self.key}
        return {
            "architecture": self.architecture,
            "weights": self.weights,
            "arguments": dict(self.arguments),
            "transform": dict(self.transform),
            **entry,
        }


@dataclass(frozen=True, eq=False)
class Cell:
    """One model, fine-tuned by one method on one downstream set with one seed.

    Cells are equal when their ids are. The fields `label` and those of `model` that only name
    or locate it are carried along for tables and are not part of the id.
    """

    suite: str
    suite_version: str
    model: Model
    method: str
    method_version: int
    label: str
    """What tables call the method: `method` itself unless the grid names a variant."""
    downstream: str | None = None
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] | None = None
    """How it is trained; None where nothing is trained (the baseline, a soup)."""
    seed: int = 0
    parents: tuple[Cell, ...] = ()
    """The cells whose weights this one starts from, in the order its method names them."""
    skip_undecodable: bool = False
    """Whether it is trained without the images that do not decode, if there are any."""
    accept_images: int | None = None
    """How many images it is trained on, where a grid accepts another number than the published."""

    def identity(self) -> dict[str, Any]:
        """Return everything that decides the numbers, and nothing else."""
        return {
            "suite": self.suite,
            "suite_version": self.suite_version,
            "model": self.model.identity(),
            "downstream": self.downstream,
            "method": self.method,
            "method_version": self.method_version,
            "hyperparameters": dict(self.hyperparameters),
            "recipe": None if self.recipe is None else dict(self.recipe),
            "seed": self.seed,
            "parents": [parent.cell_id for parent in self.parents],
            **self.data_choices,
        }

    @property
    def data_choices(self) -> dict[str, Any]:
        """Return what was asked for about the images it is trained on.

        Part of the id only when it was asked for: it came later than the ids of other cells.
        """
        choices: dict[str, Any] = {}
        if self.skip_undecodable:
            choices["skip_undecodable"] = True
        if self.accept_images is not None:
            choices["accept_images"] = self.accept_images
        return choices

    @cached_property
    def cell_id(self) -> str:
        """The digest of `identity`, whose JSON is put together so that siblings can share it."""
        return _id_in(self._frame(), self.seed, self.parents)

    def _frame(self) -> tuple[str, str, str]:
        """Return what the canonical JSON of `identity` has around parents' ids and the seed."""
        accepted = "" if self.accept_images is None else f'"accept_images":{self.accept_images},'
        downstream = "null" if self.downstream is None else _quoted(self.downstream)
        skipping = '"skip_undecodable":true,' if self.skip_undecodable else ""
        recipe = None if self.recipe is None else dict(self.recipe)
        return (
            f'{{{accepted}"downstream":{downstream}'
            f',"hyperparameters":{canonical_json(dict(self.hyperparameters))}'
            f',"method":{_quoted(self.method)},"method_version":{self.method_version}'
            f',"model":{canonical_json(self.model.identity())},"parents":[',
            f'],"recipe":{canonical_json(recipe)},"seed":',
            f',{skipping}"suite":{_quoted(self.suite)},"suite_version":{_quoted(self.suite_version)}}}',
        )

    @property
    def is_baseline(self) -> bool:
        return self.method == BASELINE

    @property
    def ancestors(self) -> Iterator[Cell]:
        """Every cell that this one is made from, directly or not."""
        for parent in self.parents:
            yield parent
            yield from parent.ancestors

    def derive_seed(self, purpose: str) -> int:
        """Return the seed (63 bits) of one of this cell's generators."""
        text = f"{self.cell_id}/{purpose}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cell) and self.cell_id == other.cell_id

    def __hash__(self) -> int:
        return hash(self.cell_id)

    def __str__(self) -> str:
        target = f" on {self.downstream}" if self.downstream else ""
        return f"{self.model.name} {self.label}{target} (seed {self.seed})"

    def to_json(self) -> str:
        return canonical_json(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Cell:
        return cls._from_dict(json.loads(text))

    @classmethod
    def _from_dict(cls, value: dict[str, Any]) -> Cell:
        known = {f.name for f in fields(cls)}
        if unknown := set(value) - known:
            raise ValueError(f"not a cell: unknown fields {sorted(unknown)}")
        return cls(
            **{
                **value,
                "model": Model(**value["model"]),
                "parents": tuple(cls._from_dict(parent) for parent in value["parents"]),
            }
        )


class Siblings:
    """Makes the cells that share everything with one but their seeds and parents.

    As `dataclasses.replace` and `Cell.cell_id`, in a fraction of the time: a plan has a hundred
    thousand of them.
    """

    def __init__(self, cell: Cell) -> None:
        self._values = {field.name: getattr(cell, field.name) for field in fields(cell)}
        self._frame = cell._frame()

    def cell(self, seed: int, parents: tuple[Cell, ...]) -> Cell:
        cell = object.__new__(Cell)
        values = self._values.copy()
        values["seed"], values["parents"] = seed, parents
        values["cell_id"] = _id_in(self._frame, seed, parents)
        object.__setattr__(cell, "__dict__", values)
        return cell


def _id_in(frame: tuple[str, str, str], seed: int, parents: tuple[Cell, ...]) -> str:
    """Return the id of a cell whose identity's JSON is known but for its parents and its seed."""
    before_parents, before_seed, after = frame
    ids = ",".join([f'"{parent.cell_id}"' for parent in parents])
    return digest_of_json(f"{before_parents}{ids}{before_seed}{seed}{after}")
