"""Which images of a set a curve looks at, and after which epochs."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.curve import Curve, part_of, some_of
from workers.datasets import Dataset, Split
from workers.labels import ClassMap
from workers.suites import DatasetSpec

SIZES = st.lists(st.integers(1, 30), min_size=1, max_size=6)
FRACTIONS = st.floats(0.01, 1.0)


def dataset_of(sizes: list[int], corruptions: tuple[str | None, ...] = (None,)) -> Dataset:
    files = tuple(f"k{label}/{n}.png" for label, size in enumerate(sizes) for n in range(size))
    labels = tuple(label for label, size in enumerate(sizes) for _ in range(size))
    names = tuple(f"k{label}" for label in range(len(sizes)))
    return Dataset(
        DatasetSpec("set", "set"),
        ClassMap(names, tuple((place,) for place in range(len(sizes))), len(sizes)),
        tuple(Split(Path("x"), files, labels, corruption) for corruption in corruptions),
    )


def images(dataset: Dataset, place: int = 0) -> set[str]:
    return set(dataset.splits[place].files)


@settings(deadline=None)
@given(SIZES, FRACTIONS, st.integers(0, 3))
def test_each_class_has_its_share_and_at_least_one(
    sizes: list[int], fraction: float, seed: int
) -> None:
    (split,) = some_of(dataset_of(sizes), fraction, seed).splits
    assert Counter(split.labels) == {
        label: max(1, round(fraction * size)) for label, size in enumerate(sizes)
    }
    assert all(name.startswith(f"k{k}/") for name, k in zip(split.files, split.labels, strict=True))
    assert len(set(split.files)) == len(split.files) == split.n_expected


@settings(deadline=None)
@given(SIZES, FRACTIONS, FRACTIONS)
def test_a_larger_part_has_all_of_a_smaller_one(sizes: list[int], one: float, other: float) -> None:
    smaller, larger = sorted((one, other))
    whole = dataset_of(sizes)
    assert images(some_of(whole, smaller)) <= images(some_of(whole, larger)) <= images(whole)


def test_every_corruption_of_a_picture_is_in_or_none_is() -> None:
    part = some_of(dataset_of([20, 10], ("fog", "snow")), 0.3)
    assert images(part, 0) == images(part, 1)
    assert [split.corruption for split in part.splits] == ["fog", "snow"]


def test_which_images_there_are_besides_does_not_matter_to_those_of_other_classes() -> None:
    few, many = some_of(dataset_of([20]), 0.25), some_of(dataset_of([20, 9, 9]), 0.25)
    assert images(few) == {name for name in images(many) if name.startswith("k0/")}


def test_another_seed_takes_other_images_and_the_same_seed_the_same() -> None:
    whole = dataset_of([1000])
    first, again, other = (images(some_of(whole, 0.5, seed)) for seed in (0, 0, 1))
    assert first == again
    # Of 500 of 1000 another draw has 250 in common, give or take 8 (hypergeometric); 60 is 7 sigma.
    assert abs(len(first & other) - 250) < 60


def test_the_whole_is_the_whole() -> None:
    whole = dataset_of([3, 4])
    assert some_of(whole, 1.0, seed=5) is whole


def test_a_part_is_told_from_another_and_from_the_whole() -> None:
    whole = dataset_of([30])
    parts = [some_of(whole, 0.5), some_of(whole, 0.5, 1), some_of(whole, 0.6), whole]
    assert len({part.digest for part in parts}) == 4


@pytest.mark.parametrize(
    ("every", "last", "epochs"),
    [(1, 3, (0, 1, 2, 3)), (2, 5, (0, 2, 4, 5)), (10, 3, (0, 3)), (3, 3, (0, 3))],
)
def test_the_first_and_the_last_epoch_are_always_there(
    every: int, last: int, epochs: tuple[int, ...]
) -> None:
    assert Curve(("v2",), every).epochs(last) == epochs


def test_each_set_and_epoch_has_a_part_of_the_table_of_its_own() -> None:
    assert Curve(("v2", "a"), every=2).parts(2) == tuple(
        part_of(name, epoch) for epoch in (0, 2) for name in ("v2", "a")
    )
