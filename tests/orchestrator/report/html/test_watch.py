"""`rib report --watch`: the file follows the store, and the page in a browser follows the file."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestrator import report_data
from orchestrator.cli import html
from orchestrator.report.html import render
from orchestrator.report_data import ReportData
from tests.orchestrator.report.html.stores import fill, make_store
from workers.errors import Problem, UserError
from workers.store import Store

if TYPE_CHECKING:
    from playwright.sync_api import Page

Open = Callable[..., "Page"]
MATRIX = "document.querySelector('#matrices').getBoundingClientRect().top"
EVERY = re.compile(r"<body data-every=\"([^\"]+)\">")


def ready(page: Page) -> None:
    page.wait_for_selector("html[data-ready]", state="attached")


def test_it_follows_a_grid_to_its_end(
    tmp_path: Path, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page in a browser sees a cell come in, and keeps what its reader has chosen."""
    last = ("soup", "c", "vit_digits")
    made = make_store(
        tmp_path / "store", is_done=lambda c: (c.label, c.downstream, c.model.name) != last
    )
    out = tmp_path / "page.html"
    opened: list[Page] = []
    places = []

    def while_it_sleeps(seconds: float) -> None:
        assert seconds == 30
        page = open_page(out, stopped_clock=True)
        opened.append(page)
        assert page.locator("#live").is_visible()
        assert page.locator("#board tbody[data-group=incomplete] tr[data-method]").count() == 1
        page.locator("#filters [name=text]").fill("vit")
        places.append(page.evaluate(f"scrollTo(0, 1500), {MATRIX}"))
        (cell,) = (c for c in made.cells.values() if (c.label, c.downstream, c.model.name) == last)
        fill(Store(made.uri), made, cell)

    monkeypatch.setattr(html, "sleep", while_it_sleeps)
    assert html.watch(html.Page(made.uri, out), every=30).is_whole
    (page,) = opened
    page.clock.run_for(31_000)
    page.wait_for_selector("body:not([data-every])", state="attached")
    ready(page)
    assert page.locator("#board tbody[data-group=incomplete]").count() == 0
    assert page.locator("#filters [name=text]").input_value() == "vit"
    assert page.locator("#board tr[data-method]:not([hidden])").count() == 3
    # What stands above has become shorter, and yet the reader looks at the same thing.
    assert -500 < places[0] < 450
    assert page.evaluate(MATRIX) == pytest.approx(places[0], abs=2)
    assert not EVERY.search(out.read_text())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "store"]


@pytest.fixture
def unfinished(tmp_path: Path) -> html.Page:
    made = make_store(tmp_path / "store", is_done=lambda c: c.is_baseline)
    return html.Page(made.uri, tmp_path / "page.html")


def test_ctrl_c_leaves_a_page_that_stays(
    unfinished: html.Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert unfinished.out is not None
    seen = []

    def stop(seconds: float) -> None:
        assert unfinished.out is not None
        seen.append((seconds, EVERY.findall(unfinished.out.read_text())))
        raise KeyboardInterrupt

    monkeypatch.setattr(html, "sleep", stop)
    with pytest.raises(KeyboardInterrupt):
        html.watch(unfinished, every=30)
    assert seen == [(30, ["30"])]
    assert not EVERY.search(unfinished.out.read_text())


def test_a_store_that_cannot_be_read_for_a_while_is_told_of_once(
    unfinished: html.Page, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = unfinished.read()
    trouble = UserError([Problem("store x", "is away")])
    answers: list[ReportData | BaseException] = [data, trouble, trouble, data, KeyboardInterrupt()]

    def gather(*_: object) -> ReportData:
        answer = answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    monkeypatch.setattr(html, "sleep", lambda _: None)
    monkeypatch.setattr(report_data, "gather", gather)
    with pytest.raises(KeyboardInterrupt):
        html.watch(unfinished, every=1)
    assert answers == []
    assert capsys.readouterr().err.count("is away") == 1


def test_it_ends_at_once_where_nothing_is_to_come(
    made: object, data: ReportData, tmp_path: Path
) -> None:
    out = tmp_path / "page.html"
    finished = make_store(tmp_path / "store")
    html.watch(html.Page(finished.uri, out), every=1000)
    assert out.read_text().startswith("<!doctype html>")


def test_what_cannot_be_watched_is_told_at_once(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.touch()
    with pytest.raises(UserError) as told:
        html.watch(html.Page(str(table), None), every=1)
    assert len(told.value.problems) == 2


def test_a_reader_who_is_busy_is_not_interrupted(
    data: ReportData, tmp_path: Path, open_page: Open
) -> None:
    (tmp_path / "page.html").write_text(render(data, every=30))
    page = open_page(tmp_path / "page.html", stopped_clock=True)
    page.evaluate("document.body.dataset.same = ''")
    page.clock.run_for(29_500)
    page.keyboard.press("Shift")
    page.clock.run_for(1000)  # it would have loaded itself anew half a second ago
    assert page.locator("body[data-same]").count() == 1
    page.clock.run_for(1500)
    page.wait_for_selector("body:not([data-same])", state="attached")
    ready(page)
