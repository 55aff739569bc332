"""Label spaces by class id (WordNet ids for ImageNet), and how a data set's classes map to them.

Nothing here goes by position in a folder listing: a class is found by its id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class LabelSpace:
    """The classes of a suite; logit k of every model stands for `ids[k]`."""

    ids: tuple[str, ...]
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(set(self.ids)) != len(self.ids):
            raise ValueError("class ids repeat")
        if self.names and len(self.names) != len(self.ids):
            raise ValueError(f"{len(self.names)} names for {len(self.ids)} classes")

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def index(self) -> dict[str, int]:
        """Class id -> logit index."""
        return {class_id: k for k, class_id in enumerate(self.ids)}


@dataclass(frozen=True)
class ClassMap:
    """Which logits are right for each class of one data set.

    `targets[c]` holds the label-space indices that count as right for class `classes[c]`;
    mostly one, several where a data set's class is coarser than the label space (ObjectNet).
    """

    classes: tuple[str, ...]
    targets: tuple[tuple[int, ...], ...]
    n_labels: int
    """Size of the label space."""

    def __post_init__(self) -> None:
        if len(self.classes) != len(self.targets):
            raise ValueError("every class needs its targets")
        for name, targets in zip(self.classes, self.targets, strict=True):
            if not targets or not all(0 <= k < self.n_labels for k in targets):
                raise ValueError(f"class {name!r} has targets {targets} in 0..{self.n_labels - 1}")

    @cached_property
    def columns(self) -> tuple[int, ...]:
        """The class mask: every label-space index that some class maps to, ascending."""
        return tuple(sorted({k for targets in self.targets for k in targets}))

    @property
    def is_masked(self) -> bool:
        return len(self.columns) < self.n_labels

    @property
    def is_one_to_one(self) -> bool:
        return all(len(targets) == 1 for targets in self.targets)

    @cached_property
    def masked_targets(self) -> tuple[tuple[int, ...], ...]:
        """`targets` as positions among `columns`."""
        position = {k: i for i, k in enumerate(self.columns)}
        return tuple(tuple(position[k] for k in targets) for targets in self.targets)


def map_class_ids(ids: Sequence[str], space: LabelSpace) -> ClassMap:
    """Map classes that are named by ids of the label space, one index each.

    Raises:
        KeyError: when an id is not in the label space.
    """
    return ClassMap(tuple(ids), tuple((space.index[i],) for i in ids), len(space))
