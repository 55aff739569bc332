"""Which of scikit-learn's 1,797 handwritten digits goes where."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits

from workers.digits.names import A_CLASSES, CLASS_IDS, LABEL_TO_CLASSES, R_CLASSES

TRAIN_PER_CLASS = 90
VAL_PER_CLASS = 20
A_PER_CLASS = 14
V2_PER_CLASS = 15
C_PER_CLASS = 10
_SEED = 20241021


@dataclass(frozen=True)
class Splits:
    """Sorted indices into scikit-learn's digits, one tuple a data set; disjoint but for `c`.

    `cartoon` and `drawing` have none of their own: they are made from `val`. `c` is the half of
    `val` that the corrupted set is made from: all of it, 40 times, would outweigh the rest.
    """

    train: tuple[int, ...]
    val: tuple[int, ...]
    c: tuple[int, ...]
    v2: tuple[int, ...]
    a: tuple[int, ...]
    r: tuple[int, ...]
    sketch: tuple[int, ...]
    objectnet: tuple[int, ...]


@cache
def source() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the digits, shape (1797, 8, 8) with values 0..16, and their labels, shape (1797,)."""
    bunch = load_digits()
    return bunch.images.astype(np.int64), bunch.target.astype(np.int64)


@cache
def make_splits() -> Splits:
    """Deal the digits out, class by class, with a fixed seed.

    The naturally hard ones are picked first, from everything held out, so that there is enough
    to choose from; what they leave is dealt in a random order to the other sets.
    """
    images, labels = source()
    dealt: dict[str, list[int]] = {name: [] for name in Splits.__dataclass_fields__}
    held_out: dict[int, list[int]] = {}
    rng = np.random.default_rng(_SEED)
    for label in range(len(CLASS_IDS)):
        order = [int(i) for i in rng.permutation(np.flatnonzero(labels == label))]
        dealt["train"] += order[:TRAIN_PER_CLASS]
        val = order[TRAIN_PER_CLASS : TRAIN_PER_CLASS + VAL_PER_CLASS]
        dealt["val"] += val
        dealt["c"] += val[:C_PER_CLASS]
        held_out[label] = order[TRAIN_PER_CLASS + VAL_PER_CLASS :]

    margins = _margins(images, labels, sorted(dealt["train"]))
    for label, pool in held_out.items():
        class_id = CLASS_IDS[label]
        if class_id in A_CLASSES:
            hardest = sorted(pool, key=lambda i: (margins[i], i))[:A_PER_CLASS]
            dealt["a"] += hardest
            pool = [i for i in pool if i not in hardest]
        dealt["v2"] += pool[:V2_PER_CLASS]
        takers = _takers(class_id)
        for position, index in enumerate(pool[V2_PER_CLASS:]):
            dealt[takers[position % len(takers)]].append(index)
    return Splits(**{name: tuple(sorted(indices)) for name, indices in dealt.items()})


def _takers(class_id: str) -> list[str]:
    """Return the sets that share what is left of a class."""
    takers = ["sketch"]
    if class_id in R_CLASSES:
        takers.append("r")
    if any(class_id in classes for classes in LABEL_TO_CLASSES.values()):
        takers.append("objectnet")
    return takers


def _margins(
    images: npt.NDArray[np.int64], labels: npt.NDArray[np.int64], train: list[int]
) -> npt.NDArray[np.int64]:
    """Return how clearly a nearest-neighbour classifier trained on ID train gets each digit right.

    The margin is the squared distance to the nearest training digit of another class less that to
    the nearest of its own; negative means misread. Shape (1797,). Integers throughout, so
    that the pick is the same on every machine, which a fitted classifier's need not be.
    """
    flat = images.reshape(len(images), -1)
    known = flat[train]
    distances = (
        (flat**2).sum(axis=1)[:, None] + (known**2).sum(axis=1)[None, :] - 2 * flat @ known.T
    )
    same = labels[:, None] == labels[train][None, :]
    farther_than_any = int(distances.max()) + 1
    own = np.where(same, distances, farther_than_any).min(axis=1)
    other = np.where(same, farther_than_any, distances).min(axis=1)
    margins: npt.NDArray[np.int64] = other - own
    return margins
