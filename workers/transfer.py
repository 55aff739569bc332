"""From this machine's memory to the device that computes, without waiting for it."""

from __future__ import annotations

import torch


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy a tensor to a device; a GPU gets to it when it has done what it was asked before.

    From pageable memory CUDA would wait for all of that first, and the GPU for the next batch
    after it. So what is not in page-locked memory yet is copied there; PyTorch keeps such memory
    until the GPU has read it.
    """
    if device.type == "cuda" and tensor.device.type == "cpu" and not tensor.is_pinned():
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
