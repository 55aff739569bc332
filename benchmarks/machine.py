"""What a benchmark was run on."""

from __future__ import annotations

import contextlib
import os
import platform
from importlib.metadata import version
from pathlib import Path


def machine(*packages: str) -> str:
    """Say cores, processor, Python, and the versions of what matters to a benchmark."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((x.partition(": ")[2] for x in lines if x.startswith("model name")), model)
    cores = len(os.sched_getaffinity(0))
    versions = [f"{name} {version(name)}" for name in packages]
    return ", ".join([f"{cores} cores", model, f"Python {platform.python_version()}", *versions])
