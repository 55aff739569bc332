"""A store whose numbers are known, its page, and a browser that opens it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.report.html import render
from orchestrator.report_data import ReportData, gather
from tests.orchestrator.report.html.browser import Tab
from tests.orchestrator.report.html.stores import Made, attempt_of, make_store
from workers.cell import Cell
from workers.store import Store

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

MESSAGE = "CUDA out of memory\nTried to allocate 2.00 GiB"


def is_broken(cell: Cell) -> bool:
    """One cell has failed, and what is made from it is blocked."""
    is_there = (cell.model.name, cell.downstream) == ("resnet_digits", "a")
    return is_there and cell.label in ("lwf", "soup")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Two models, three methods, two seeds; for one of the models, two methods are incomplete."""
    folder = tmp_path_factory.mktemp("stores") / "store"
    store = make_store(folder, seeds=(0, 1), gpus=0.5, is_done=lambda cell: not is_broken(cell))
    for cell in store.cells.values():
        if is_broken(cell) and cell.label == "lwf":
            failed = {"error_kind": "cuda_oom", "message": MESSAGE, "host": "node-7"}
            Store(store.uri).commit_attempt(attempt_of(cell, "failed", 3, **failed))
    return store


@pytest.fixture(scope="session")
def data(made: Made) -> ReportData:
    return gather(made.uri)


@pytest.fixture(scope="session")
def report(data: ReportData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store's page."""
    path = tmp_path_factory.mktemp("pages") / "report.html"
    path.write_text(render(data))
    return path


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open files in tabs; in the end nothing may have gone wrong in any of them."""
    tabs: list[Tab] = []
    contexts = []

    def open_file(
        file: Path, width: int = 1280, stopped_clock: bool = False, **options: Any
    ) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        context.set_default_timeout(30_000)
        contexts.append(context)
        tabs.append(Tab(context.new_page()))
        if stopped_clock:
            tabs[-1].page.clock.install(time=0)
            tabs[-1].page.clock.pause_at(1000)
        return tabs[-1].open(file)

    yield open_file
    trouble = [what for tab in tabs for what in tab.trouble]
    for context in contexts:
        context.close()
    assert not trouble
