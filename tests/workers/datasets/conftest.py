"""The miniature archives of ImageNet-RIB, unpacked once."""

from pathlib import Path

import pytest

from tests.imagenet_archives import Archives


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All nine sets under the names that their archives give them. Read-only."""
    root = tmp_path_factory.mktemp("imagenet")
    Archives(root).all()
    return root
