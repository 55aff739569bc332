"""The page as text: it needs nothing but itself, escapes all, and says what there is to say."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from orchestrator.canary import Comparison, Verdict
from orchestrator.report.html import numbers, render
from orchestrator.report_data import ReportData, gather
from tests.orchestrator.report.html.stores import make_store

POSTER = Path(__file__).parents[3] / "data" / "poster_vit_b16_augreg_in1k.csv"
STATIC = files("orchestrator.report.html") / "static"


def payload_of(page: str) -> Any:
    found = re.search(r'<script type="application/json" id="payload">(.*?)</script>', page, re.S)
    assert found
    return json.loads(found[1])


def words_of(page: str) -> str:
    """Return a page's text, without its style, scripts and tags."""
    text = re.sub(r"<(style|script)[^>]*>.*?</\1>", "", page, flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text))


@pytest.fixture(scope="module")
def page(data: ReportData) -> str:
    return render(data)


def test_nothing_is_asked_for_from_outside(page: str) -> None:
    assert set(re.findall(r"\w+://[^\s\"'`]+", page)) == {"http://www.w3.org/2000/svg"}  # a name
    targets = re.findall(r'\b(?:src|href|action|srcset|data)="([^"]*)"', page)
    assert {target for target in targets if not target.startswith("#")} == {"data:,"}
    assert "url(" not in page
    assert "@import" not in page


def test_only_the_pages_own_scripts_may_run(page: str) -> None:
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy
    rules = dict(rule.strip().split(" ", 1) for rule in policy[1].split(";"))
    assert rules["default-src"] == "'none'"
    scripts = re.findall(r"<script>(.*?)</script>", page, re.S)
    digests = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    assert len(scripts) == 2
    assert rules["script-src"].split() == [f"'sha256-{digest}'" for digest in digests]


def test_the_script_makes_no_markup_of_text() -> None:
    scripts = [one for one in STATIC.iterdir() if one.name.endswith(".js")]
    assert len(scripts) > 5
    for script in scripts:
        text = script.read_text()
        forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function"
        assert not re.search(forbidden, text), script.name
        assert not re.search(r"fetch\(|XMLHttpRequest|import\(|WebSocket|sendBeacon", text)
        assert "</script" not in text
        assert "<!--" not in text


def test_what_the_script_draws_from_is_what_was_gathered(data: ReportData, page: str) -> None:
    found = payload_of(page)
    assert found["sets"] == list(data.results.sets.names)
    by_key = {(entry["model"], entry["method"]): entry for entry in found["entries"]}
    assert by_key.keys() == data.matrices.keys()
    for key, matrix in data.matrices.items():
        seen = np.array(by_key[key]["matrix"], dtype=float)
        np.testing.assert_array_equal(seen, matrix.accuracy)
    for model in found["models"]:
        np.testing.assert_array_equal(model["baseline"], data.baselines[model["name"]])


def test_what_the_scoring_is_is_said(data: ReportData) -> None:
    assert "scoring: each set over its own classes" in words_of(render(data))


def test_a_store_scored_otherwise_says_so(made: Any) -> None:
    text = words_of(render(gather(made.uri, unmasked=["objectnet"])))
    assert "scoring: objectnet over all classes" in text


def test_a_model_that_the_canary_doubts_is_flagged(data: ReportData) -> None:
    from fractions import Fraction

    off = Comparison("val", Fraction(70), Fraction(80))
    verdicts = (Verdict("vit_digits", (off,)), Verdict("resnet_digits"))
    remarks = dataclasses.replace(data.results.remarks, verdicts=verdicts)
    results = dataclasses.replace(data.results, remarks=remarks)
    page = render(dataclasses.replace(data, results=results))
    assert "canary: differs by -10.000 (val): vit_digits" in words_of(page)
    flags = re.findall(r'class="flag" title="([^"]*)"', page)
    assert flags == ["differs by -10.000 (val)"] * 3  # its three methods


def test_contaminated_columns_are_marked(page: str) -> None:
    heads = re.findall(r'data-key="([^"]+)"[^>]*><button type="button">([^<]*)', page)
    marked = {key for key, label in heads if label.endswith("†")}
    assert marked == {"mRI", "RI cartoon", "RI drawing", "RI c", "OOD", "ID", "ID drop"}


def test_a_published_table_has_a_page_without_a_run() -> None:
    page = render(gather(str(POSTER)))
    assert 'id="provenance"' not in page
    assert 'id="failures"' not in page
    text = words_of(page)
    assert "scoring: as published" in text
    assert "+4.79" in text  # the soup's mRI on the poster
    assert payload_of(page)["training"] == []


def test_a_grid_of_which_nothing_is_done(tmp_path: Path) -> None:
    page = render(gather(make_store(tmp_path / "store", is_done=lambda _: False).uri))
    text = words_of(page)
    assert "0 of 6 complete" in text
    assert "no entry is complete" in text
    assert 'id="cost"' not in page
    assert payload_of(page)["models"][0]["baseline"] == [None] * 9


def test_it_says_how_far_the_grid_is(page: str) -> None:
    # Two cells have all rows and yet have to train again: blocked soups need their weights.
    assert "92 of 98 done" in words_of(page)
    assert "92 done 2 waiting 2 failed 2 blocked nobody drives it now" in words_of(page)


def test_it_loads_itself_anew_only_when_asked(data: ReportData, page: str) -> None:
    assert "data-every" not in page
    assert '<body data-every="30">' in render(data, every=30.0)


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ((0.00063, 0.01831, 0.0), ["0.0006", "0.0183", "0"]),
        ((1.5, 12.25, 0.04), ["1.5", "12.2", "0.0"]),
        ((12345.6, 3.4), ["12\u202f346", "3"]),
    ],
)
def test_hours_stand_under_each_other(values: Sequence[float], texts: list[str]) -> None:
    assert [numbers.hours(value, max(values)) for value in values] == texts


def test_minus_signs_are_minus_signs() -> None:
    row = {"mRI": -1.234, "ID drop": 0.04, "mRI low": -2.0, "mRI high": -1.0, "mRI sd": 0.5}
    assert numbers.number(row, "mRI") == "−1.23"
    assert numbers.number(row, "ID drop") == "+0.0"
    assert numbers.beside(row, "mRI") == "±0.77 σ0.50"
    assert numbers.number({"mRI": np.nan}, "mRI") == "—"
    assert numbers.places({"rank": 2, "rank low": 2, "rank high": 4}) == "2–4"
    assert numbers.places({"rank": pd.NA}) == "—"


def test_long_names_end_lines_where_people_would_end_them() -> None:
    assert str(numbers.breakable("vit_b_16.a<b")) == "vit_<wbr>b_<wbr>16.<wbr>a&lt;b"
    assert str(numbers.breakable("_")) == "_"
