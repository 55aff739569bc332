"""What is held out: class by class, the same for everybody, and never trained on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.embedded import FAST, bench_of, cell_of
from tests.workers.methods import MemorySource
from workers.bench import Bench
from workers.cell import Model
from workers.errors import UserError
from workers.holdout import PartOf, split_off
from workers.methods import FineTuning, MethodConfig
from workers.train import Step

A_QUARTER = FAST.model_copy(update={"holdout": 0.25})


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 4), min_size=8, max_size=80), st.floats(0.05, 0.95), st.integers(0, 9)
)
def test_a_part_of_every_class_is_held_out(classes: list[int], part: float, seed: int) -> None:
    sizes = {label: classes.count(label) for label in classes}
    expected = {label: min(round(part * n), n - 1) for label, n in sizes.items()}
    labels = torch.tensor(classes)
    if not any(expected.values()):
        with pytest.raises(ValueError, match="holds nothing out"):
            split_off(labels, part, seed)
        return
    trained_on, held_out = split_off(labels, part, seed)
    assert sorted([*trained_on.tolist(), *held_out.tolist()]) == list(range(len(classes)))
    held_out_labels = labels[held_out].tolist()
    assert {label: held_out_labels.count(label) for label in sizes} == expected
    assert set(labels[trained_on].tolist()) == set(classes)  # every class keeps one at least
    for again, first in zip(split_off(labels, part, seed), (trained_on, held_out), strict=True):
        assert torch.equal(again, first)


def test_another_seed_holds_out_others() -> None:
    labels = torch.arange(3).repeat(20)
    chosen = [split_off(labels, 0.3, seed)[1].tolist() for seed in range(3)]
    assert len({tuple(places) for places in chosen}) == 3


def test_a_part_gives_its_own_images_under_their_places_in_the_whole() -> None:
    source = MemorySource()
    part = PartOf(source, torch.tensor([2, 5, 11, 20]))
    (batch,) = part.batches(torch.tensor([3, 0, 2]), 8)
    assert len(part) == 4
    assert batch.indices.tolist() == [20, 2, 11]
    assert torch.equal(batch.pixels, source.pixels[[20, 2, 11]])
    assert torch.equal(batch.labels, source.labels[[20, 2, 11]])


# ---------------------------------------------------------------------------- on a workbench


class Watching(FineTuning):
    """Fine-tuning that remembers which images it was trained on."""

    def __init__(self) -> None:
        super().__init__(MethodConfig())
        self.seen: list[int] = []

    def loss(self, step: Step) -> torch.Tensor:
        self.seen += step.indices.tolist()
        return step.cross_entropy()


class Album(nn.Module):
    """A model that keeps the images that it is shown, and says class 0."""

    def __init__(self) -> None:
        super().__init__()
        self.images: list[torch.Tensor] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.images += list(images.cpu())
        return torch.eye(10, device=images.device)[[0] * len(images)]


def trained_on(bench: Bench) -> set[int]:
    watching = Watching()
    bench.train(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10)), watching)
    return set(watching.seen)


@pytest.fixture
def a_bench(resnet: Model, digits_root: Path, tmp_path: Path) -> Any:
    def make(method: str, **keys: Any) -> Bench:
        cell = cell_of(method, resnet, **{"recipe": A_QUARTER, **keys})
        return bench_of(cell, digits_root, tmp_path)

    return make


def test_every_seed_and_method_is_trained_on_the_same_images(a_bench: Any) -> None:
    parts = [
        trained_on(a_bench(method, seed=seed))
        for method, seed in [("ft", 0), ("ft", 1), ("l2sp", 0)]
    ]
    assert parts[0] == parts[1] == parts[2]
    assert len(parts[0]) == 84 - 6 * round(0.25 * 14)
    labels = a_bench("ft").downstream()[1].labels
    kept = labels[sorted(parts[0])].tolist()
    assert [kept.count(label) for label in range(6)] == [14 - round(0.25 * 14)] * 6


def test_without_a_holdout_every_image_is_trained_on(a_bench: Any) -> None:
    assert trained_on(a_bench("ft", recipe=FAST)) == set(range(84))


def test_members_are_scored_on_the_images_that_none_was_trained_on(a_bench: Any) -> None:
    bench = a_bench("greedy-soup", members=["pretrained", "ft", "l2sp"])
    album = Album()
    score = bench.held_out_score(album)
    _, source = bench.downstream()
    held_out = sorted(set(range(84)) - trained_on(a_bench("ft")))
    (batch,) = source.batches(torch.tensor(held_out), 84)
    assert torch.equal(torch.stack(album.images), bench.normalise(batch.pixels).cpu())
    assert score.n_total == len(held_out) == 24


@pytest.mark.parametrize("members", [["ft", "l2sp"], ["pretrained", "soup"]])
def test_members_that_hold_nothing_out_cannot_be_chosen_from(
    a_bench: Any, members: list[str]
) -> None:
    bench = a_bench("greedy-soup", recipe=FAST, members=members)
    with pytest.raises(UserError, match="hold out"):
        bench.held_out_score(bench.pretrained())


def test_members_that_hold_out_different_parts_cannot_be_chosen_from(
    a_bench: Any, resnet: Model, digits_root: Path, tmp_path: Path
) -> None:
    soup = cell_of("greedy-soup", resnet, recipe=A_QUARTER, members=["ft", "l2sp"])
    half = FAST.model_copy(update={"holdout": 0.5}).model_dump(mode="json")
    mixed = replace(soup, parents=(soup.parents[0], replace(soup.parents[1], recipe=half)))
    bench = bench_of(mixed, digits_root, tmp_path)
    with pytest.raises(UserError, match="hold out"):
        bench.held_out_score(bench.pretrained())
