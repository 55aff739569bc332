"""What a machine says of itself. Standard library only.

These functions are sent to machines by value: they answer on one that has another version of this
project, or none.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any

PACKAGES = ("ray", "torch", "torchvision", "timm", "pillow")
"""What besides this project's own code decides the numbers, or whether cells run at all."""

PROJECT = ("orchestrator", "workers")


def facts_here() -> dict[str, Any]:
    """Return what is compared between machines, and what is only shown, as plain values."""
    return {
        "host": socket.gethostname(),
        "versions": {
            "rib-orchestrator": version("rib-orchestrator"),
            "code": code_digest(),
            "python": platform.python_version(),
            **{name: version(name) for name in PACKAGES},
        },
        "gpus": gpus(),
        "free": shutil.disk_usage(tempfile.gettempdir()).free,
    }


def version(distribution: str) -> str:
    """Return the version of what is installed, empty when it is not."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def code_digest() -> str:
    """Digest the source of this project as it lies here; empty when it is not installed."""
    digest = hashlib.sha256()
    for package in PROJECT:
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            return ""
        top = Path(next(iter(spec.submodule_search_locations)))
        for path in sorted(top.rglob("*.py")):
            digest.update(f"{package}/{path.relative_to(top)}\0".encode(errors="surrogateescape"))
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def gpus() -> list[list[str]]:
    """Return the name and driver version of each NVIDIA GPU of this machine."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        found = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=60, env=environment
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [[part.strip() for part in line.rsplit(",", 1)] for line in found.stdout.splitlines()]
