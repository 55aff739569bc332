"""What a process gives back between cells, and what ends it. No GPU is needed: torch is asked."""

import gc
import weakref

import pytest
import torch

from workers.release import HELD, fills_gpu, loses_gpu, release


class Circle:
    """Holds on to itself, as a model with hooks does."""

    def __init__(self) -> None:
        self.own = self


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Have torch look as if it had used a GPU; what is asked of it is noted."""
    asked: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: asked.append("empty_cache"))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: HELD)
    return asked


def test_what_a_cell_left_is_given_back(cuda: list[str]) -> None:
    gc.disable()
    try:
        left = weakref.ref(Circle())
        assert left() is not None
        assert release()
        assert left() is None
    finally:
        gc.enable()
    assert cuda == ["empty_cache"]


def test_a_process_that_holds_much_all_the_same_cannot_go_on(
    cuda: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: HELD + 1)
    assert not release()
    assert cuda == ["empty_cache"]


def test_without_a_gpu_there_is_nothing_to_give_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: pytest.fail("there is no cache"))
    assert release()


@pytest.mark.parametrize(
    ("error", "fills", "loses"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate"), True, False),
        (RuntimeError("CUDA error: out of memory"), True, False),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"), True, False),
        (RuntimeError("CUDA error: device-side assert triggered"), False, True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), False, True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False, False),
        (KeyError("CUDA error"), False, False),
    ],
)
def test_what_errors_of_a_gpu_mean(error: Exception, fills: bool, loses: bool) -> None:
    assert (fills_gpu(error), loses_gpu(error)) == (fills, loses)
