"""What several tests need: the embedded suite, made once and kept between runs; a browser."""

from __future__ import annotations

import hashlib
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

from tests.orchestrator.report.html.browser import chromium
from workers.digits.make import make

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PROJECT = Path(__file__).resolve().parent.parent
KEPT = PROJECT / ".pytest_cache" / "digits-rib"
MADE_BY = ["digits/*.py", "suites/digits_rib.py", "train.py", "images.py", "models/build.py"]


LONG = {"chaos", "end_to_end"}
"""The folders of the files that take longest."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest files first: the processes that share them end at about the same time."""
    items.sort(key=lambda item: item.path.parent.name not in LONG)


def makers_digest() -> str:
    """Digest the code that makes the suite: other code may make another suite."""
    digest = hashlib.sha256()
    for pattern in MADE_BY:
        for path in sorted((PROJECT / "workers").glob(pattern)):
            digest.update(path.read_bytes())
    return digest.hexdigest()


@pytest.fixture(scope="session")
def digits_root() -> Path:
    """The data root of digits-rib, pre-trained models included. Read-only: copy before changing."""
    KEPT.parent.mkdir(exist_ok=True)
    mark = KEPT.with_suffix(".made-by")
    with FileLock(KEPT.with_suffix(".lock")):
        if not (KEPT.is_dir() and mark.is_file() and mark.read_text() == makers_digest()):
            mark.unlink(missing_ok=True)
            shutil.rmtree(KEPT, ignore_errors=True)
            make(KEPT)
            mark.write_text(makers_digest())
    return KEPT


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium: one for all tests of a process, which can have no second."""
    with chromium() as started:
        yield started


@pytest.fixture(autouse=True)
def _heeds_ctrl_c() -> Iterator[None]:
    """Undo that a command which was interrupted ignores Ctrl-C from then on, being about to end."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)
