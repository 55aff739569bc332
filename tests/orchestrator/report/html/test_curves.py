"""Accuracies along training, on the page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestrator.report.html import render
from orchestrator.report_data import gather
from tests.orchestrator.report.html.stores import Made, add_curves, make_store, on_curve

if TYPE_CHECKING:
    from playwright.sync_api import Page

Open = Callable[..., "Page"]

ID, OOD = "val", ("v2", "a", "r", "sketch", "objectnet", "cartoon", "drawing", "c")


@pytest.fixture(scope="module")
def curved(tmp_path_factory: pytest.TempPathFactory) -> Made:
    made = make_store(tmp_path_factory.mktemp("curved") / "store", seeds=(0, 1))
    add_curves(made, "ft")
    return made


@pytest.fixture(scope="module")
def page(curved: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pages") / "curves.html"
    path.write_text(render(gather(curved.uri)))
    return path


def test_the_three_accuracies_of_each_epoch_are_drawn(
    page: Path, curved: Made, open_page: Open
) -> None:
    opened = open_page(page)
    heads = opened.locator("#curves h3").all_inner_texts()
    assert heads == [
        "Training accuracy (%)",
        "Training loss",
        "Accuracy on the set that was tuned on (%)",
        "Accuracy on val (%)",
        "Mean accuracy on the other OOD sets (%)",
    ]

    def mean(name: str, epoch: int) -> float:
        return sum(on_curve(curved, name, epoch, seed) for seed in (0, 1)) / 2

    def told(chart: int) -> list[str | None]:
        titles = opened.locator("#curves figure").nth(chart).locator("circle title")
        return titles.all_text_contents()

    epochs = (0, 1, 2)
    assert told(2) == [f"{d}, epoch {e}: {mean(d, e):.1f} %" for d in OOD for e in epochs]
    assert told(3) == [f"{d}, epoch {e}: {mean(ID, e):.1f} %" for d in OOD for e in epochs]
    others = {
        (d, e): sum(mean(name, e) for name in OOD if name != d) / 7 for d in OOD for e in epochs
    }
    assert told(4) == [f"{d}, epoch {e}: {others[d, e]:.1f} %" for d in OOD for e in epochs]
    note = opened.locator("#epochs .about").nth(1).inner_text()
    assert "0.5 of each class's images of val, v2, a" in " ".join(note.split())


def test_a_method_without_curves_has_those_of_its_training(page: Path, open_page: Open) -> None:
    opened = open_page(page)
    opened.locator("#epochs-controls [name=method]").select_option("lwf")
    assert opened.locator("#curves h3").all_inner_texts() == [
        "Training accuracy (%)",
        "Training loss",
    ]


def test_hiding_a_set_hides_it_in_every_chart(page: Path, open_page: Open) -> None:
    opened = open_page(page)
    assert opened.locator("#curves path.series").count() == 5 * 8
    opened.locator("#epochs-legend button").first.click()
    assert opened.locator("#curves path.series").count() == 5 * 7


def test_a_store_without_curves_says_nothing_of_them(report: Path, open_page: Open) -> None:
    assert open_page(report).locator("#epochs .about").count() == 1
