"""The scatter of OTDD against the ID drop; only there when distances are."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from orchestrator.correlation import correlate
from orchestrator.report.html import render
from orchestrator.report_data import Distances, ReportData

if TYPE_CHECKING:
    from playwright.sync_api import Page

Open = Callable[..., "Page"]

OTDD = {"v2": 10.0, "a": 30.0, "r": 45.0, "sketch": 52.5, "objectnet": 61.0, "c": 80.0}
DROPS = {"v2": 0.5, "a": 2.0, "r": 1.0, "sketch": 6.0, "objectnet": -1.25, "c": np.nan}


@pytest.fixture(scope="module")
def page(data: ReportData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = ["model", "method", "downstream", "otdd", "id_drop"]
    rows = [("vit_digits", "ft", name, OTDD[name], DROPS[name]) for name in OTDD]
    rows += [("vit_digits", "soup", name, OTDD[name], np.nan) for name in OTDD]
    known = [name for name in OTDD if not np.isnan(DROPS[name])]
    found = correlate([OTDD[name] for name in known], [DROPS[name] for name in known])
    correlations = {("vit_digits", "ft"): found, ("vit_digits", "soup"): correlate([], [])}
    distances = Distances("resnet_digits", pd.DataFrame(rows, columns=names), correlations)
    path = tmp_path_factory.mktemp("distances") / "page.html"
    path.write_text(render(dataclasses.replace(data, distances=distances)))
    return path


def test_points_stand_where_their_numbers_say(page: Path, open_page: Open) -> None:
    opened = open_page(page)
    opened.locator("#scatter-controls [name=method]").select_option("ft")
    marks = opened.locator("#scatter circle")
    titles = marks.locator("title").all_text_contents()
    assert [title.split(":")[0] for title in titles] == ["v2", "a", "r", "sketch", "objectnet"]
    assert titles[-1] == "objectnet: OTDD 61.00, drop −1.25 points"
    places = marks.evaluate_all("m => m.map(x => [+x.getAttribute('cx'), +x.getAttribute('cy')])")
    x, y = np.array(places).T
    known = [name for name in OTDD if not np.isnan(DROPS[name])]
    for seen, true in ((x, OTDD), (y, DROPS)):
        straight = np.polyfit([true[name] for name in known], seen, 1)
        np.testing.assert_allclose(np.polyval(straight, [true[n] for n in known]), seen, atol=0.02)
    assert opened.evaluate("document.documentElement.scrollWidth") == 1280


def test_correlations_are_given_with_intervals_or_refused(page: Path, open_page: Open) -> None:
    opened = open_page(page)
    opened.locator("#scatter-controls [name=method]").select_option("ft")
    told = opened.locator("#scatter figcaption").inner_text()
    found = correlate([10, 30, 45, 52.5, 61], [0.5, 2, 1, 6, -1.25])
    assert found.pearson is not None
    assert "in the features of resnet_digits" in told
    assert "Over 5 sets" in told
    numbers = [float(one.replace("−", "-")) for one in re.findall(r"[+−]\d\.\d\d", told)]
    pearson = [found.pearson.value, found.pearson.low, found.pearson.high]
    assert numbers[:3] == pytest.approx(pearson, abs=0.0051)
    opened.locator("#scatter-controls [name=method]").select_option("soup")
    assert "No drop" in opened.locator("#scatter").inner_text()


def test_without_distances_there_is_no_such_section(report: Path, open_page: Open) -> None:
    opened = open_page(report)
    assert opened.locator("#distances").count() == 0
    assert "Distances" not in opened.locator("nav").inner_text()
