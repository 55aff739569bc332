"""What a worker process gives back between two cells, and when it is of no more use.

A process runs many cells: starting one costs seconds. On a GPU that several share, what PyTorch
keeps for the next cell is missing to the others meanwhile.
"""

from __future__ import annotations

import gc
import logging
import sys

HELD = 512 * 2**20
"""Bytes of GPU memory that a process may hold after a cell: the workspaces of cuBLAS stay."""

LOST = ("CUDA error", "CUDNN_STATUS_EXECUTION_FAILED")
"""How PyTorch speaks of errors after which a process's CUDA context may be lost for good."""

FULL = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""How it speaks of GPU memory that ran out elsewhere than in its own allocator."""

logger = logging.getLogger(__name__)


def release() -> bool:
    """Give the GPU memory of the last cell back; return whether the process can go on.

    It cannot when it holds much of that memory all the same: something keeps a cell's tensors.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return True
    gc.collect()  # first: models hold on to themselves in circles
    torch.cuda.empty_cache()
    held = int(torch.cuda.memory_allocated())
    if held > HELD:
        logger.error("%d bytes of GPU memory are not given back: this process ends", held)
    return held <= HELD


def fills_gpu(error: Exception) -> bool:
    """Whether an error says that there is not enough GPU memory."""
    # By its name: torch may not be imported here.
    return type(error).__name__ == "OutOfMemoryError" or _says(error, FULL)


def loses_gpu(error: Exception) -> bool:
    """Whether an error leaves this process's GPU unusable: each cell after it would fail, too."""
    return _says(error, LOST) and not fills_gpu(error)


def _says(error: Exception, signs: tuple[str, ...]) -> bool:
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)
