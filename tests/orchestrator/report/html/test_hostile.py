"""Names and messages that are written to break out of a page stay text, whatever they are."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.report.html import render
from orchestrator.report_data import gather
from tests.orchestrator.report.html.stores import attempt_of, make_store
from tests.orchestrator.report.html.test_page import payload_of
from workers.store import Store

if TYPE_CHECKING:
    from playwright.sync_api import Page

Open = Callable[..., "Page"]

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    '"><script>alert(2)</script>',
    "</script><script>alert(3)</script>",
    "'; alert(4); //",
    "<!--<script>",
    "${alert(5)} {{ 7 * 7 }} {% raw %}",
    "a\u2028b\u2029c\u0085d",
    "&lt;b&gt; &amp; <b>bold</b>",
    '" onmouseover="alert(6)" x="',
    "javascript:alert(7)",
    "\u202ereversed\u202c 🧪 e\u0301",
    "\\u003cimg\\u003e \\",
]
SETS = ["id", "one", "two<svg onload=alert(8)>", "three"]


def write_table(path: Path) -> None:
    """Write a published table of which every name is hostile."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["model", "method", "downstream", "eval_dataset", "accuracy_percent"])
        for k, name in enumerate(HOSTILE):
            rows.writerows([name, "pretrained", "", set_, 50 + k] for set_ in SETS)
            for method in (name, "ft"):
                rows.writerows(
                    [name, method, tuned, set_, 60 - k] for tuned in SETS[1:] for set_ in SETS
                )


def test_a_table_with_hostile_names(tmp_path: Path, open_page: Open) -> None:
    table = tmp_path / "table.csv"
    write_table(table)
    data = gather(str(table), "id")
    text = render(data)
    models = [model["name"] for model in payload_of(text)["models"]]
    assert models == HOSTILE
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    page = open_page(tmp_path / "page.html")
    rows = page.locator("#board tr[data-method]")
    shown = rows.evaluate_all("r => r.map(x => [x.dataset.method, x.dataset.model])")
    assert sorted(map(tuple, shown)) == sorted((m, n) for n in HOSTILE for m in (n, "ft"))
    entries = rows.locator(".entry").all_text_contents()
    assert sorted(entries) == sorted([*HOSTILE, *["ft"] * len(HOSTILE)])
    # Walk through everything that is drawn from them.
    form = page.locator("#entry-controls")
    for name in HOSTILE:
        form.locator("[name=model]").select_option(value=name)
        form.locator("[name=method]").select_option(value=name)
        assert page.locator("#heat-map caption b").first.text_content() == name
        page.locator("#bars-controls [name=method]").select_option(value=name)
        assert name in page.locator("#radar-legend button").all_text_contents()
        page.locator("#filters [name=text]").fill(name)
    assert_nothing_got_in(page)


def test_a_store_with_hostile_rows(tmp_path: Path, open_page: Open) -> None:
    first, second = '"><script>alert(1)</script>', "<img src=x onerror=alert(2)>"
    made = make_store(
        tmp_path / "store",
        pretraining="<img src=x onerror=alert(3)>",
        provenance={"torch_version": first, "device": second, "git_commit": "</script>" + second},
        is_done=lambda cell: cell.is_baseline,
    )
    store = Store(made.uri)
    for k, cell in enumerate(cell for cell in made.cells.values() if not cell.is_baseline):
        message = f"{HOSTILE[k % len(HOSTILE)]}\n{HOSTILE[(k + 1) % len(HOSTILE)]}"
        told = {"message": message, "host": first, "error_kind": second, "gpu": second}
        store.commit_attempt(attempt_of(cell, "failed", **told))
    (tmp_path / "page.html").write_text(render(gather(made.uri)), encoding="utf-8")
    page = open_page(tmp_path / "page.html")
    summaries = page.locator(".failures summary").all_text_contents()
    assert set(summaries) >= {text for text in HOSTILE if not text.startswith("a\u2028")}
    provenance = page.locator("#provenance").text_content() or ""
    assert all(text in provenance for text in (first, second))
    assert_nothing_got_in(page)


def assert_nothing_got_in(page: Any) -> None:
    """Only what templates and the script make is there; `open_page` sees to dialogs and errors."""
    assert page.locator("img, iframe, object, embed, b b, [onerror], [onload]").count() == 0
    assert page.locator("[onmouseover]").count() == 0
    assert page.locator("script").count() == 3
    assert "49" not in page.title()
