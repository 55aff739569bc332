"""What a suite declares: one in-distribution (ID) data set and n related OOD data sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from workers.cell import Model
from workers.labels import LabelSpace

SplitKey = tuple[str | None, int | None]
"""(corruption, severity) of one evaluation split; (None, None) for a plain set."""


@dataclass(frozen=True)
class Clause:
    """A term of a data set's licence that a user has to acknowledge by name."""

    name: str
    reason: str


@dataclass(frozen=True)
class DatasetSpec:
    """One data set of a suite: where it lies below the data root, and what should be there."""

    name: str
    folder: str
    """Where it lies below the data root, in upper or lower case: what its archive unpacks to."""
    aliases: tuple[str, ...] = field(default=(), kw_only=True)
    """Other places where people have it. More than one of all of them is an error, not a choice."""
    layout: str = "class_folders"
    """A name registered in `workers.datasets`."""
    classes: tuple[str, ...] | None = None
    """The class ids that it holds, when fewer than the label space."""
    n_images: int | None = None
    """How many images the published set has, all splits together; None when unknown."""
    n_classes: int | None = None
    """How many classes it has, where `classes` does not say; all of the label space if None."""
    n_indices: int | None = None
    """How many label-space indices those map to, when more than one each."""
    derived_from: str | None = None
    """The data set whose images it was made from: tuning on one contaminates the other."""
    splits: tuple[SplitKey, ...] = ((None, None),)
    is_even: bool = True
    """Whether every split has equally many images."""
    no_tuning: Clause | None = None
    """The clause that forbids to tune a model on it, if its licence has one."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What its layout needs to know besides, such as the width of a border to crop."""


@dataclass(frozen=True)
class Suite:
    """A family of data sets that share a label space.

    `version` is part of every cell's identity: bump it when the images or labels change.
    """

    name: str
    version: str
    space: LabelSpace
    id: DatasetSpec
    ood: tuple[DatasetSpec, ...]
    models: tuple[Model, ...] = ()
    """Models that come with the suite; their `weights` digest is filled in from the file."""
    id_train: DatasetSpec | None = None
    """ID images that no evaluation uses, where the suite has them."""
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Published top-1 of models as they came: model -> evaluation set -> percent."""
    parameters: Mapping[str, int] = field(default_factory=dict)
    """How many parameters models have whose weights are no file of the suite, for estimates."""
    make: Callable[[Path], None] | None = None
    """Makes the suite's data below a root, for suites that can be made."""
    declaration: Mapping[str, Any] | None = None
    """What a user declares it by (`workers.suites._declared`); None for one that is built in."""

    @cached_property
    def evaluation_sets(self) -> dict[str, DatasetSpec]:
        """Every set that cells are evaluated on, the ID set first."""
        return {spec.name: spec for spec in (self.id, *self.ood)}

    @property
    def ood_names(self) -> tuple[str, ...]:
        return tuple(spec.name for spec in self.ood)

    def dataset(self, name: str) -> DatasetSpec:
        if self.id_train is not None and name == self.id_train.name:
            return self.id_train
        return self.evaluation_sets[name]

    def splits(self, names: Sequence[str] | None = None) -> dict[str, tuple[SplitKey, ...]]:
        """Return the splits that each evaluation set's accuracy is made of."""
        wanted = self.evaluation_sets if names is None else names
        return {name: self.evaluation_sets[name].splits for name in wanted}

    def with_images(self, n_images: Mapping[str, int]) -> Suite:
        """Return the suite with other numbers of images of some of its sets.

        Args:
            n_images: the number of each such set, all splits together.
        """

        def counted(spec: DatasetSpec) -> DatasetSpec:
            if spec.name not in n_images:
                return spec
            return replace(spec, n_images=n_images[spec.name], is_even=False)

        train = None if self.id_train is None else counted(self.id_train)
        ood = tuple(counted(spec) for spec in self.ood)
        return replace(self, id=counted(self.id), ood=ood, id_train=train)

    def contaminates(self, downstream: str) -> tuple[str, ...]:
        """Return the evaluation sets that share their source images with a downstream set."""
        source = self.dataset(downstream).derived_from or downstream
        return tuple(
            spec.name
            for spec in self.evaluation_sets.values()
            if spec.name != downstream and source in (spec.name, spec.derived_from)
        )


def corruption_splits(
    corruptions: Sequence[str], severities: Sequence[int]
) -> tuple[SplitKey, ...]:
    """Return the splits of an ImageNet-C-like set, ordered by corruption, then severity."""
    return tuple((corruption, severity) for corruption in corruptions for severity in severities)
