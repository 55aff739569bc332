"""The documentation as a site: it builds in strict mode, and asks for nothing from elsewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from orchestrator.grid_keys import SECTIONS
from tests.orchestrator.report.html.browser import Tab
from workers.methods import methods

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PROJECT = Path(__file__).resolve().parents[1]
IN_REPOSITORY = [
    *sorted(PROJECT.glob("docs/*.md")),
    *(PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "docker/README.md")),
]


def build(project: Path, site: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", site],
        cwd=project,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(PROJECT, folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_there(site: Path) -> None:
    pages = {path.stem for path in PROJECT.glob("docs/*.md")} | {"index", "clusters"}
    assert pages <= {path.stem for path in site.glob("*.html")}
    assert not list(site.rglob("*.py"))


@pytest.mark.parametrize(
    ("page", "text", "says"),
    [
        ("docs/faq.md", "[this](nowhere.md)", "nowhere.md"),
        ("docs/faq.md", "[this](grids.md#nowhere)", "#nowhere"),
        ("docs/faq.md", "[this](#nowhere)", "#nowhere"),
        ("docs/faq.md", "![this](images/nowhere.png)", "images/nowhere.png"),
        ("docs/faq.md", "[this](/grids.md)", "/grids.md"),
        ("README.md", "[docs/nowhere.md](docs/nowhere.md)", "nowhere.md"),
        ("docs/new.md", "# A page that the navigation lacks", "new.md"),
    ],
)
def test_what_leads_nowhere_fails_the_build(
    tmp_path: Path, page: str, text: str, says: str
) -> None:
    project = tmp_path / "project"
    for name in ("docs", "grids"):
        shutil.copytree(PROJECT / name, project / name)
    for name in ("mkdocs.yml", "README.md", "CONTRIBUTING.md", "docker/README.md"):
        (project / name).parent.mkdir(exist_ok=True)
        shutil.copy(PROJECT / name, project / name)
    with (project / page).open("a") as file:
        file.write(f"\n\n{text}\n")
    done = build(project, tmp_path / "site")
    assert done.returncode != 0
    assert says in done.stderr


@pytest.mark.parametrize("page", IN_REPOSITORY, ids=lambda path: str(path.relative_to(PROJECT)))
def test_links_work_in_the_repository_too(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?![a-z]+:)([^)#\s]*)#?([^)\s]*)\)", prose(page)):
        path = page.parent / target if target else page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), f"{target}#{anchor}"


def prose(page: Path) -> str:
    """Return a page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {
        re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


def test_every_key_has_a_description() -> None:
    keys = [
        (model.__name__, key, field.description)
        for model in (*SECTIONS.values(), *(kind.Config for kind in methods().values()))
        for key, field in model.model_fields.items()
    ]
    assert len(keys) > 100
    assert not [key for key in keys if not key[2]]


def test_the_page_of_keys_is_what_the_models_give() -> None:
    command = [sys.executable, "-m", "orchestrator.grid_keys"]
    made = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    assert (PROJECT / "docs" / "grid-keys.md").read_text() == made, "run: make docs"


class Resources(HTMLParser):
    """What a page loads by itself, in whatever element."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        names = ("src", "srcset", "data", "poster", "href" if tag == "link" else "src")
        self.found += [given[name] or "" for name in names if name in given]


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    found = {url for page in pages for url in Resources(page).found}
    assert len(found) > 10
    assert not [url for url in found if re.match(r"[a-z]+:|//", url)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("theme", "scheme", "width"),
    [("light", "default", 1366), ("dark", "slate", 390)],
)
def test_every_page_fits_and_has_no_trouble(
    site: Path, browser: Browser, theme: Literal["light", "dark"], scheme: str, width: int
) -> None:
    tab = Tab(browser.new_page(color_scheme=theme, viewport={"width": width, "height": 900}))
    for page in sorted(set(site.glob("*.html")) - {site / "404.html"}):  # that is a server's
        tab.page.goto(page.as_uri())
        tab.page.wait_for_selector(f"body[data-md-color-scheme={scheme}]")
        wide = tab.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, page.name
    # Going to the next page ends what still loads; the icon comes last, and the page is there.
    icon = (site / "assets" / "images" / "favicon.png").as_uri()
    assert Path(icon.removeprefix("file://")).is_file()
    assert [what for what in tab.trouble if icon not in what] == []
    tab.page.close()


@pytest.mark.slow
def test_the_search_works_without_a_server(site: Path, browser: Browser) -> None:
    tab = Tab(browser.new_page())
    tab.page.goto((site / "index.html").as_uri())
    tab.page.click(".md-search__input")
    tab.page.keyboard.type("micro_batches")
    tab.page.wait_for_selector(".md-search-result__item a[href*='grid-keys.html']")
    assert not tab.trouble
    tab.page.close()
