"""What a row says of how it came to be: versions, device, host. Never part of an identity."""

from __future__ import annotations

import importlib
import os
import resource
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import metadata


@cache
def version_of(distribution: str) -> str:
    """Return an installed distribution's version, empty when it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


@dataclass(frozen=True)
class Host:
    """The process that runs a cell."""

    name: str
    pid: int

    @classmethod
    def here(cls) -> Host:
        return cls(socket.gethostname(), os.getpid())


def gpu_in_use() -> str:
    """Return the UUID and name of the GPU that this process was given; empty on a CPU.

    Does not import torch: a process that has not has used no GPU.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return ""
    properties = torch.cuda.get_device_properties(0)
    return f"GPU-{properties.uuid} {properties.name}"


def kind_of(device: str) -> str:
    """Return what a device has in common with others of its kind: all but a GPU's UUID.

    Args:
        device: as rows have it: what `gpu_in_use` returns, or such as `cpu`.
    """
    return device.partition(" ")[2] if device.startswith("GPU-") else device


def gpu_given() -> str:
    """Return the same of a process that has yet to use its GPU; where it has none, torch stays out.

    That takes seconds where torch was not imported before, which a cell would need in any case.
    """
    if os.environ.get("CUDA_VISIBLE_DEVICES"):
        with suppress(ImportError, OSError):
            importlib.import_module("torch")
    return gpu_in_use()


def peak_memory_bytes() -> int:
    """Return the most GPU memory that this cell held, or on a CPU this process's peak memory."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
