"""Other accuracies from predictions that were kept: other classes, class by class, calibration.

Pure: tables of predictions in, numbers out; no model and no GPU. What is exact is said by the
functions, and what cannot be is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from orchestrator.masks import ALL, Mask
from orchestrator.predictions import IMAGE, any_target, is_target, lists, target_classes
from workers.predictions import declared_masks
from workers.suites import Suite

NEEDED = [
    *IMAGE[:2],
    "label",
    "targets",
    *(f"{name}{scope}" for scope in ("", "_unmasked") for name in ("top1", "correct")),
    *(f"probability{scope}" for scope in ("", "_unmasked")),
    "top",
    "top_masked",
    "top1_within",
]
"""The columns of predictions that are looked at here."""

BINS = 15
"""Of the calibration error: as many as Guo et al. 2017 take."""


class UnansweredError(Exception):
    """What was kept does not say what the best of some classes is, for some images."""

    def __init__(self, n_images: int, n_total: int) -> None:
        super().__init__(
            f"of {n_images} of {n_total} images none of the classes that were kept is among those "
            "asked for"
        )
        self.n_images, self.n_total = n_images, n_total


@dataclass(frozen=True)
class Rescored:
    """The images of a set, each with the best of some classes."""

    is_scored: NDArray[np.bool_]
    """Whether a right class of the image is among those asked for; others do not count."""
    top1: NDArray[np.int16]
    """Places in the label space; of images that do not count, anything."""
    correct: NDArray[np.bool_]
    """Whether that is right."""
    confidence: NDArray[np.float32] | None
    """Its probability; None where it is not known."""

    @property
    def n_total(self) -> int:
        return int(self.is_scored.sum())

    @property
    def n_correct(self) -> int:
        return int(self.correct[self.is_scored].sum())


def rescore(table: pa.Table, mask: Mask, suite: Suite) -> Rescored:
    """Take as the prediction of each image the most probable of some classes.

    `own` and `all` are as they were counted when the cell was scored. For other classes M the
    prediction is the arg-max of the logits over M, the first of equals. It is known for an image
    when some class of M is among the most probable ones that were kept, over the whole label space,
    or over the set's own classes S if M is a part of S: the first of these is then the best of M.
    It is known, too, when the best class of a declared set of which M is a part is in M.

    Args:
        table: predictions of a cell on a set: NEEDED.
        mask: which classes.
        suite: that they are of.

    Raises:
        UnansweredError: when it is not known for every image that counts.
    """
    if mask.classes is None:
        scope = "_unmasked" if mask.name == ALL else ""
        return Rescored(
            np.ones(table.num_rows, dtype=np.bool_),
            table[f"top1{scope}"].to_numpy(),
            table[f"correct{scope}"].to_numpy(),
            table[f"probability{scope}"].to_numpy(),
        )
    wanted = np.zeros(len(suite.space), dtype=np.bool_)
    wanted[list(mask.classes)] = True
    is_scored = any_target(table, lambda targets, _: wanted[targets])
    top1, is_known = np.zeros(table.num_rows, dtype=np.int16), np.zeros(table.num_rows, np.bool_)
    for ranked in _rankings(table, mask, suite):
        is_in = wanted[ranked]
        first = ranked[np.arange(len(ranked)), is_in.argmax(axis=1)]
        new = is_in.any(axis=1) & ~is_known
        top1[new], is_known[new] = first[new], True
    if n_unknown := int((is_scored & ~is_known).sum()):
        raise UnansweredError(n_unknown, int(is_scored.sum()))
    return Rescored(is_scored, top1, is_target(table, top1), None)


def _rankings(table: pa.Table, mask: Mask, suite: Suite) -> Iterator[NDArray[np.int16]]:
    """Yield classes of each image [N, K]: the first that is in the mask is the mask's best."""
    classes = set(mask.classes or ())
    top = lists(table, "top")
    if top is not None:
        yield top
    own = lists(table, "top_masked")
    if own is not None and classes.issubset(target_classes(table).tolist()):
        yield own
    within = lists(table, "top1_within")
    if within is not None:
        for place, declared in enumerate(declared_masks(suite).values()):
            if classes.issubset(declared):
                yield within[:, place : place + 1]


def per_split(table: pa.Table, scored: Rescored) -> pd.DataFrame:
    """Count by split: columns corruption, severity, n_correct, n_total, in the table's order."""
    return _counted(table, scored, IMAGE[:2])


def per_class(table: pa.Table, scored: Rescored) -> pd.DataFrame:
    """Count by the images' class: columns label, n_correct, n_total; all splits together."""
    return _counted(table, scored, ["label"])


def _counted(table: pa.Table, scored: Rescored, by: list[str]) -> pd.DataFrame:
    frame = table.select(by).to_pandas().assign(n_correct=scored.correct, n_total=1)
    groups = frame[scored.is_scored].groupby(by, dropna=False, sort=False, as_index=False)
    counted: pd.DataFrame = groups.sum().astype({"n_correct": "int64", "n_total": "int64"})
    return counted


@dataclass(frozen=True)
class Agreement:
    """How far two cells say the same of the same images."""

    n_images: int
    share: float
    """Of the images of which they predict the same class."""
    kappa: float | None
    """Cohen's; None where each of them says one and the same class of every image."""


def agreement(a: NDArray[np.int16], b: NDArray[np.int16]) -> Agreement:
    """Compare two cells' predictions of the same images, [N] each.

    Cohen's kappa is (p_o - p_e) / (1 - p_e), where p_o is the share of equal predictions and p_e
    the sum over classes of the product of the shares that the two give to the class: what would be
    equal by chance (Cohen 1960, Educational and Psychological Measurement 20:37-46).
    """
    share = float((a == b).mean())
    n_classes = int(max(a.max(), b.max())) + 1
    shares = [np.bincount(one, minlength=n_classes) / len(one) for one in (a, b)]
    by_chance = float(shares[0] @ shares[1])
    kappa = None if by_chance == 1 else (share - by_chance) / (1 - by_chance)
    return Agreement(len(a), share, kappa)


def calibration(
    confidence: NDArray[np.float32], correct: NDArray[np.bool_], bins: int = BINS
) -> pd.DataFrame:
    """Sort images into bins of equal width by their confidence: ((m - 1) / M, m / M].

    Args:
        confidence: probability of the prediction, in (0, 1].
        correct: whether it is right.
        bins: M.

    Returns:
        A row per bin that is not empty: low, high, n, and the mean confidence and the accuracy.
    """
    exact = confidence.astype(np.float64)
    place = np.clip(np.ceil(exact * bins).astype(np.int64) - 1, 0, bins - 1)
    frame = pd.DataFrame({"bin": place, "confidence": exact, "accuracy": correct})
    found = frame.groupby("bin").agg(
        n=("accuracy", "size"), confidence=("confidence", "mean"), accuracy=("accuracy", "mean")
    )
    edges = {"low": found.index / bins, "high": (found.index + 1) / bins}
    return found.assign(**edges).reset_index(drop=True)[["low", "high", *found.columns]]


def calibration_error(
    confidence: NDArray[np.float32], correct: NDArray[np.bool_], bins: int = BINS
) -> float:
    """Return the expected calibration error: sum over bins of n_m / n |accuracy_m - confidence_m|.

    Guo et al. 2017 (arXiv 1706.04599), equation 3; see `calibration` for the bins.
    """
    found = calibration(confidence, correct, bins)
    gap = (found["accuracy"] - found["confidence"]).abs()
    return float((found["n"] * gap).sum() / found["n"].sum())
