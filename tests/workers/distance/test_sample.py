"""The images that stand for a set: seeded, and equally many of each class."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from workers.distance.sample import balanced_sample


def labels_of(counts: list[int]) -> torch.Tensor:
    return torch.tensor([label for label, n in enumerate(counts) for _ in range(n)])


@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.integers(1, 120), st.integers(0, 9))
def test_a_sample_is_as_even_as_the_classes_allow(counts: list[int], n: int, seed: int) -> None:
    labels = labels_of(counts)
    places = balanced_sample(labels, n, seed)
    assert len(places) == min(n, len(labels))
    assert torch.equal(places, places.unique())
    taken = torch.bincount(labels[places], minlength=len(counts)).tolist()
    # Whoever gives fewer than the most has no more, or is one behind.
    most = max(taken)
    assert all(got == has or got >= most - 1 for got, has in zip(taken, counts, strict=True))


def test_the_seed_decides_which() -> None:
    labels = labels_of([50, 50])
    first, again, other = (balanced_sample(labels, 20, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_set_that_is_small_enough_is_taken_whole() -> None:
    labels = labels_of([3, 90])
    assert balanced_sample(labels, 93, 0).tolist() == list(range(93))
