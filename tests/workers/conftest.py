"""The embedded suite's models, and computing as a worker does: in one thread."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.embedded import embedded_model
from workers.cell import Model


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def resnet(digits_root: Path) -> Model:
    return embedded_model("resnet_digits", digits_root)


@pytest.fixture(scope="session")
def vit(digits_root: Path) -> Model:
    return embedded_model("vit_digits", digits_root)
