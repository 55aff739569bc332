"""Counts on every set of ImageNet-RIB, by hand, of a model whose predictions are known.

The images go the whole way: archive, layout, decoding, transform, `evaluate`, `Scorer`. What the
model predicts is written in them (`tests.imagenet_archives`).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import e, log
from pathlib import Path

import pytest
import torch

from tests.imagenet_archives import (
    LABEL_TO_NAMES,
    SEVERAL,
    SPACE,
    TRANSFORM,
    Archives,
    Guess,
    ReadingModel,
    objectnet_indices,
    read,
    subset,
    truth,
)
from workers.datasets import Dataset, Split
from workers.evaluate import Score, evaluate
from workers.images import ImageSource
from workers.scoring import Scorer


def score(dataset: Dataset, split: Split | None = None) -> Score:
    source = ImageSource(dataset, TRANSFORM, None if split is None else [split])
    scorer = Scorer(dataset.classes, torch.device("cpu"))
    return evaluate(ReadingModel(), source, scorer, TRANSFORM.normalise)


# ---------------------------------------------------------------------------- the whole space


def every_third(right: Sequence[int]) -> Guess:
    """Right for labels 0, 3, ..., 999, which are 334; else right only the second time."""
    (k,) = right
    return (k, k + 1 if k < 999 else 0) if k % 3 == 0 else (k + 1, k)


@pytest.mark.parametrize(
    ("name", "unpack"),
    [
        ("imagenet-1k", Archives.val),
        ("imagenet-v2", Archives.v2),
        ("imagenet-sketch", Archives.sketch),
        ("imagenet-cartoon", Archives.cartoon),
        ("imagenet-drawing", Archives.drawing),
    ],
)
def test_sets_of_all_1000_classes(tmp_path: Path, name: str, unpack: object) -> None:
    assert callable(unpack)
    unpack(Archives(tmp_path, every_third))
    found = score(read(tmp_path, name))
    assert (found.n_correct, found.n_correct_unmasked, found.n_total) == (334, 334, 1000)
    total = log(e**2 + e + 998)
    assert found.loss == pytest.approx((334 * (total - 2) + 666 * (total - 1)) / 1000)


# ---------------------------------------------------------------------------- 200 classes


@pytest.mark.parametrize(
    ("name", "unpack"), [("imagenet-a", Archives.a), ("imagenet-r", Archives.r)]
)
def test_sets_of_200_classes_with_and_without_their_mask(
    tmp_path: Path, name: str, unpack: object
) -> None:
    inside = sorted(SPACE.index[class_id] for class_id in subset(name))
    outside = sorted(set(range(1000)) - set(inside))

    def guess(right: Sequence[int]) -> Guess:
        """Fifty classes of each: right, right but for the mask, wrong inside, wrong both ways."""
        (k,) = right
        place = inside.index(k)
        neighbour, stranger = inside[(place + 1) % 200], outside[place]
        return ((k, stranger), (stranger, k), (neighbour, k), (stranger, neighbour))[place % 4]

    assert callable(unpack)
    unpack(Archives(tmp_path, guess))
    found = score(read(tmp_path, name))
    assert (found.n_correct, found.n_correct_unmasked, found.n_total) == (100, 50, 200)
    losses = (
        log(e**2 + 199) - 2,
        log(e + 199) - 1,
        log(e**2 + e + 198) - 1,
        log(e + 199),
    )
    assert found.loss == pytest.approx(sum(losses) / 4)


# ---------------------------------------------------------------------------- objectnet

PLACE = {tuple(objectnet_indices(label)): n for n, label in enumerate(LABEL_TO_NAMES)}
MASK = sorted({k for label in LABEL_TO_NAMES for k in objectnet_indices(label)})
STRANGER = next(k for k in range(1000) if k not in MASK)


def test_objectnet_counts_any_index_of_a_class_under_its_mask_of_125(tmp_path: Path) -> None:
    def guess(right: Sequence[int]) -> Guess:
        """Of 113 classes 29 are right, 28 right but for the mask, 56 wrong."""
        place = PLACE.get(tuple(right), 0)
        other = next(k for k in MASK if k not in right)
        guesses = (
            (right[-1], STRANGER),
            (STRANGER, right[0]),
            (other, right[0]),
            (STRANGER, other),
        )
        return guesses[place % 4]

    Archives(tmp_path, guess).objectnet()
    dataset = read(tmp_path, "objectnet")
    assert list(dataset.classes.columns) == MASK
    found = score(dataset)
    assert (found.n_correct, found.n_correct_unmasked, found.n_total) == (57, 29, 113)
    assert found.loss == pytest.approx(sum(objectnet_losses()) / 113)


def objectnet_losses() -> list[float]:
    """-log of the sum of the probabilities of a class's indices, for the guesses above."""
    losses = []
    for right, place in PLACE.items():
        n = len(right)
        logits, among_right = (
            ([2.0], [2.0]),
            ([1.0], [1.0]),
            ([2.0, 1.0], [1.0]),
            ([1.0], []),
        )[place % 4]
        total = sum(e**z for z in logits) + 125 - len(logits)
        right_total = sum(e**z for z in among_right) + n - len(among_right)
        losses.append(log(total) - log(right_total))
    return losses


@pytest.mark.parametrize("which", [0, 1, -1])
def test_each_index_of_a_chair_is_right(tmp_path: Path, which: int) -> None:
    """With only one of a class's indices counted, the nine classes with several would be lost."""
    Archives(tmp_path, lambda right: (right[which % len(right)], STRANGER)).objectnet()
    found = score(read(tmp_path, "objectnet"))
    assert (found.n_correct, found.n_correct_unmasked) == (113, 113)


def test_an_index_of_another_class_is_wrong(tmp_path: Path) -> None:
    several = [objectnet_indices(label) for label in SEVERAL]

    def guess(right: Sequence[int]) -> Guess:
        """Chairs are taken for pens, pens for skirts and so on."""
        if list(right) not in several:
            return truth(right)
        return several[(several.index(list(right)) + 1) % 9][0], right[0]

    Archives(tmp_path, guess).objectnet()
    assert score(read(tmp_path, "objectnet")).n_correct == 113 - 9


def test_with_its_border_on_objectnet_would_be_read_wrongly(tmp_path: Path) -> None:
    """The border shifts and shrinks what the model sees: leaving it on shows in the count."""
    Archives(tmp_path).objectnet()
    dataset = read(tmp_path, "objectnet")
    assert score(dataset).n_correct == 113
    as_it_is = Dataset(dataset.spec, dataset.classes, dataset.splits, border=0)
    source = ImageSource(as_it_is, TRANSFORM)
    (batch,) = source.batches(torch.arange(1), 1)
    red = torch.tensor([255, 0, 0], dtype=torch.uint8)
    assert (batch.pixels[0, :, 0, 8] == red).all()
    (batch,) = ImageSource(dataset, TRANSFORM).batches(torch.arange(1), 1)
    assert not (batch.pixels[0, :, 0, 8] == red).all()


# ---------------------------------------------------------------------------- c


@pytest.fixture(scope="module")
def corrupted(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """C, of which three splits are better, worse and much worse than the others."""
    root = tmp_path_factory.mktemp("c")
    Archives(root, every_third).c()
    Archives(root, truth).split("fog", 1)
    Archives(root, lambda right: (right[0] // 2 * 2, 999)).split("fog", 2)
    Archives(root, lambda right: ((right[0] + 7) % 1000, 0)).split("snow", 5)
    return read(root, "imagenet-c")


@pytest.mark.parametrize(
    ("corruption", "severity", "right"),
    [("fog", 1, 1000), ("fog", 2, 500), ("fog", 3, 334), ("snow", 5, 0), ("pixelate", 5, 334)],
)
def test_every_split_of_c_has_a_count_of_its_own(
    corrupted: Dataset, corruption: str, severity: int, right: int
) -> None:
    (split,) = [s for s in corrupted.splits if (s.corruption, s.severity) == (corruption, severity)]
    found = score(corrupted, split)
    assert (found.n_correct, found.n_correct_unmasked, found.n_total) == (right, right, 1000)


def test_c_as_a_downstream_set_is_its_75_folders_one_after_another(corrupted: Dataset) -> None:
    source = ImageSource(corrupted, TRANSFORM)
    assert len(source) == 75_000
    assert torch.equal(source.labels, torch.arange(1000).repeat(75))
    model = ReadingModel()
    position = {(s.corruption, s.severity): n for n, s in enumerate(corrupted.splits)}
    assert sorted(position.values()) == list(range(75))
    for key, shift in ((("fog", 1), 0), (("snow", 5), 7)):
        chosen = 1000 * position[key] + torch.tensor([0, 11, 500, 992])
        # Decoded by themselves: a source of this size is not kept in memory.
        pixels = torch.stack([source.files[int(k)] for k in chosen])
        predicted = model(pixels / 255).argmax(dim=1)
        assert predicted.tolist() == [shift, 11 + shift, 500 + shift, 992 + shift]
