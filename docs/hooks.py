"""What the site takes from outside of docs/, and where its links lead then.

The README, CONTRIBUTING and docker/README.md are pages of the site; the grids and the files for
clusters that pages link to are files of it. Links are written as they work in the repository, and
are turned here into those that work on the site. A link whose text is a file's name is called what
the navigation calls it.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

PROJECT = Path(__file__).resolve().parents[1]

PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "docker/README.md": "clusters.md",
}
"""Files of the repository -> the pages that they are on the site."""

FILES = ("grids/*.yaml", "docker/*.yaml", "docker/*/*.json")
"""What pages link to besides, as it lies in the repository."""

CODE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[([^\]]*)\]\((?![a-z]+:|#)([^)#\s]+)(#[^)]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add what lies outside of docs/."""
    found = (path for pattern in FILES for path in sorted(PROJECT.glob(pattern)))
    names = [path.relative_to(PROJECT).as_posix() for path in found]
    for source, place in {**PAGES, **dict(zip(names, names, strict=True))}.items():
        files.append(File.generated(config, place, abs_src_path=str(PROJECT / source)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Lead links to where their targets are on the site."""
    sources = {place: source for source, place in PAGES.items()}
    here = page.file.src_uri
    folder = posixpath.dirname(sources.get(here, f"docs/{here}"))
    titles = {place: title for part in config.nav for title, place in _entries(part)}

    def moved(link: re.Match[str]) -> str:
        text, written, anchor = link[1], link[2], link[3] or ""
        target = posixpath.normpath(posixpath.join(folder, written))
        place = PAGES.get(target, target.removeprefix("docs/"))
        name = titles.get(place, text) if text in (written, target) else text
        return f"[{name}]({place}{anchor})"

    parts = CODE.split(markdown)
    return "".join(part if i % 2 else LINK.sub(moved, part) for i, part in enumerate(parts))


def _entries(part: dict[str, list[dict[str, str]]]) -> list[tuple[str, str]]:
    """Return the titles and pages of a part of the navigation."""
    return [entry for pages in part.values() for one in pages for entry in one.items()]
