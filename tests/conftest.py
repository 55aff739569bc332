"""What several tests need: the embedded suite, made once and kept between runs."""

import hashlib
import shutil
from pathlib import Path

import pytest
from filelock import FileLock

from workers.digits.make import make

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
