"""A place of its own for everything that the chaos test starts, so that what stays behind shows.

On Linux that is a namespace of mounts and of processes: the store lies on a small disk, shared
memory is private, and whatever happens, nothing outlives the program. It takes root, or a kernel
that lets users have namespaces. Without one, two kinds of fault are not possible.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

PROJECT = Path(__file__).resolve().parents[2]
ISOLATED = "RIB_CHAOS_ISOLATED"
UNSHARE = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
SHARED_MEMORY = Path("/dev/shm")
OF_LIBRARIES = ("torchinductor_*", "tmp*wandb-media", "tmp*wandb-artifacts")
"""PyTorch's cache, which stays, and what Weights & Biases makes when timm imports it, where it is
installed: a process that is killed cannot remove that.
"""
PR_SET_CHILD_SUBREAPER = 36  # prctl(2)


@dataclass(frozen=True)
class Sandbox:
    """The folders that everything lies in, and whether the store is on a disk of its own."""

    root: Path
    is_isolated: bool

    @property
    def disk(self) -> Path:
        """Where stores under fire lie."""
        return self.root / "disk"

    @property
    def undisturbed(self) -> Path:
        return self.root / "undisturbed"

    @property
    def temporary(self) -> Path:
        """Where every process is told to put temporary files."""
        return self.root / "tmp"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    def left_over(self) -> list[str]:
        """Return what is left in temporary folders."""
        found = [p for p in self.temporary.glob("*") if not any(map(p.match, OF_LIBRARIES))]
        if self.is_isolated:
            found += SHARED_MEMORY.glob("*")
        return sorted(map(str, found))


def isolate(module: str, arguments: Sequence[str]) -> bool:
    """Start this program over in namespaces of its own.

    Returns only in there, or with False where the system does not let it.
    """
    if os.environ.get(ISOLATED):
        return True
    for command in (UNSHARE, (*UNSHARE, "--map-root-user")):
        try:
            mount = [*command, "mount", "-t", "tmpfs", "none", str(SHARED_MEMORY)]
            subprocess.run(mount, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        os.environ[ISOLATED] = "1"
        program = [*command, sys.executable, "-m", module, *arguments]
        os.execvp(program[0], program)
    return False


@contextmanager
def sandbox(is_isolated: bool, disk_bytes: int, keep: Path | None) -> Iterator[Sandbox]:
    """Make the folders and set the environment that every process inherits.

    Args:
        is_isolated: whether `isolate` could.
        disk_bytes: how much fits on the disk of the stores.
        keep: where the logs and the last store go at the end.
    """
    box = Sandbox(Path(tempfile.mkdtemp(prefix="rib-chaos-")), is_isolated)
    _adopt_orphans()
    for folder in (box.disk, box.temporary, box.logs, box.root / "ray"):
        folder.mkdir()
    if is_isolated:
        _mount("-t", "tmpfs", "-o", f"size={disk_bytes}", "chaos", box.disk)
        _mount("-t", "tmpfs", "chaos", SHARED_MEMORY)
    os.environ |= {
        "TMPDIR": str(box.temporary),
        "RAY_TMPDIR": str(box.root / "ray"),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RIB_PRETEND_GPUS": "1",
    }
    try:
        yield box
    finally:
        if keep is not None:
            for folder in (box.logs, box.disk, box.undisturbed):
                shutil.copytree(folder, keep / folder.name, dirs_exist_ok=True)
        if is_isolated:
            subprocess.run(["umount", "--lazy", str(box.disk)], check=True)
        shutil.rmtree(box.root, ignore_errors=True)


def processes_left(patience_s: float) -> list[str]:
    """Wait for every process that this program or its children started to end.

    Returns those that have not, having killed them.
    """
    deadline = time.monotonic() + patience_s
    while (left := _living()) and time.monotonic() < deadline:
        time.sleep(0.2)
    described = [f"{p.pid} {_command(p)}" for p in left]
    for process in left:
        process.kill()
    return described


def is_gone(process: psutil.Process) -> bool:
    """Whether a process has ended, be it waited for or not."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def until(condition: object, timeout_s: float) -> bool:
    """Wait until a condition holds; return whether it came to that."""
    assert callable(condition)
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _living() -> list[psutil.Process]:
    return [p for p in psutil.Process().children(recursive=True) if not is_gone(p)]


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())[:200]
    except psutil.Error:
        return "?"


def _adopt_orphans() -> None:
    """Have the processes whose parent dies become this one's children, so that none gets away."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def _mount(*arguments: object) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)
