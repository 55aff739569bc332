"""Pages of nothing, of one row, and of a hundred models by fifteen methods."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from orchestrator.report.html import render
from orchestrator.report_data import gather
from orchestrator.set_names import IMAGENET_RIB
from tests.orchestrator.report.html.stores import make_store

if TYPE_CHECKING:
    from playwright.sync_api import Page

Open = Callable[..., "Page"]


def write_table(path: Path, models: int, methods: int) -> None:
    """Write a published table of ImageNet-RIB with so many models and methods."""
    names = [f"vit_base_patch16_clip_224.laion2b_ft_in12k_in1k_{k:03}" for k in range(models)]
    labels = [f"method-{k:02}" for k in range(methods)]
    keys = [(name, "pretrained", "", on) for name in names for on in IMAGENET_RIB.names]
    keys += [
        (name, label, tuned, on)
        for name in names
        for label in labels
        for tuned in IMAGENET_RIB.ood
        for on in IMAGENET_RIB.names
    ]
    table = pd.DataFrame(keys, columns=["model", "method", "downstream", "eval_dataset"])
    percents = np.random.default_rng(0).uniform(20, 90, len(table))
    table.assign(accuracy_percent=percents).to_parquet(path)


def test_a_hundred_models_by_fifteen_methods(tmp_path: Path, open_page: Open) -> None:
    write_table(tmp_path / "table.parquet", 100, 15)
    text = render(gather(str(tmp_path / "table.parquet")))
    assert len(text.encode()) < 8e6
    (tmp_path / "page.html").write_text(text)
    page = open_page(tmp_path / "page.html")
    page.locator("#entry-controls [name=model]").select_option(index=99)
    page.locator("#entry-controls [name=method]").select_option("method-14")
    assert page.locator("#heat-map tbody tr").count() == 8
    page.locator('#board th[data-key="RI objectnet"] button').click()
    page.locator("#filters [name=text]").fill("_077 method-03")
    assert page.locator("#board tr[data-method]:not([hidden])").count() == 1
    assert page.locator("#bars rect").count() == 200
    assert page.locator("#radars polygon.area").count() == 8 * (1 + 5), "not all fifteen at once"
    for width in (390, 1024):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") == width
    page.emulate_media(media="print")
    assert page.locator("#board").evaluate("t => t.getBoundingClientRect().right") <= 1025


def test_a_store_of_which_nothing_is_done(tmp_path: Path, open_page: Open) -> None:
    (tmp_path / "page.html").write_text(
        render(gather(make_store(tmp_path / "store", is_done=lambda _: False).uri))
    )
    page = open_page(tmp_path / "page.html", 390)
    assert page.locator("#board tr[data-method]").count() == 6
    assert page.locator("#heat-map td.hole").count() == 8 * 10
    assert page.locator("#bars").inner_text() == "No model has both values yet."
    assert not page.locator("#epochs").is_visible()
    page.get_by_text("accuracy", exact=True).click()
    assert page.locator("#heat-map td.hole").count() == 8 * 10 + 9
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_a_store_with_one_cell(tmp_path: Path, open_page: Open) -> None:
    made = make_store(
        tmp_path / "store",
        is_done=lambda c: (c.label, c.downstream, c.model.name) == ("ft", "r", "vit_digits"),
    )
    (tmp_path / "page.html").write_text(render(gather(made.uri)))
    page = open_page(tmp_path / "page.html")
    page.locator("#entry-controls [name=model]").select_option("vit_digits")
    page.locator("#entry-controls [name=method]").select_option("ft")
    page.get_by_text("accuracy", exact=True).click()
    assert page.locator("#heat-map td.tint").count() == 9
    assert page.locator("#curves path.series").count() == 2


def test_a_table_without_any_fine_tuning(tmp_path: Path, open_page: Open) -> None:
    write_table(tmp_path / "table.parquet", 2, 0)
    (tmp_path / "page.html").write_text(render(gather(str(tmp_path / "table.parquet"))))
    page = open_page(tmp_path / "page.html")
    assert page.get_by_text("No model has been fine-tuned here yet.").is_visible()
    assert page.locator("section:visible h2").all_inner_texts() == ["Leaderboard"]
