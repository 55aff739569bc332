"""`rib data check --decode` as a command of its own: interrupted, killed, and taken up again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

N_IMAGES = 320
N_PIECES = 5

pytestmark = pytest.mark.slow


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A set with the classes of digits-rib's val, whose images take long to decode."""
    folder = tmp_path / "data" / "val"
    noise = np.random.default_rng(0).integers(0, 256, (600, 600, 3), dtype=np.uint8)
    for digit in range(10):
        (folder / f"d{digit}").mkdir(parents=True)
    first = folder / "d0" / "0.png"
    Image.fromarray(noise).save(first, compress_level=1)
    for n in range(1, N_IMAGES):
        os.link(first, folder / f"d{n % 10}" / f"{n}.png")
    return folder.parent


def start(root: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "orchestrator", "data", "check", "digits-rib"]
    command += ["--root", str(root), "--sets", "val", "--decode", "--cpus", "2", *options]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a group of its own, as a shell gives it
    )


@pytest.fixture
def started(root: Path) -> Iterator[subprocess.Popen[str]]:
    """A check in the middle of decoding."""
    process = start(root)
    wait_for(lambda: n_pieces(root) >= 1)
    yield process
    process.kill()
    process.communicate()


def n_pieces(root: Path) -> int:
    log = root / ".rib" / "manifest.decoded" / "digits-rib.val.jsonl"
    return log.read_text().count('"images"') if log.exists() else 0


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def children_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def finish(root: Path) -> dict[str, object]:
    """Check again, to the end; return what is said of the set's decoding."""
    process = start(root, "--json")
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 1, "there are more images than in digits-rib's val"
    decoded = json.loads(out)["sets"][0]["decoded"]
    assert isinstance(decoded, dict)
    return decoded


def test_ctrl_c_stops_at_once_and_the_next_check_goes_on(
    started: subprocess.Popen[str], root: Path
) -> None:
    children = children_of(started)
    os.killpg(started.pid, signal.SIGINT)  # as a terminal does: to every process of the group
    out, err = started.communicate(timeout=20)
    assert started.returncode == 130
    assert out == ""
    assert err.splitlines()[-1] == "rib: interrupted; run the same command again to go on"
    assert "Traceback" not in err
    wait_for(lambda: not any(is_alive(child) for child in children), 5)
    kept = n_pieces(root)
    assert 1 <= kept < N_PIECES
    manifest = json.loads((root / ".rib" / "manifest.json").read_text())
    assert manifest["suites"]["digits-rib"]["val"]["decoded"]["images"] == 64 * kept
    assert finish(root)["images"] == N_IMAGES
    assert n_pieces(root) == N_PIECES, "none was decoded twice"


def test_a_killed_check_leaves_no_process_behind_and_what_it_found(
    started: subprocess.Popen[str], root: Path
) -> None:
    children = children_of(started)
    assert len(children) >= 2
    started.send_signal(signal.SIGKILL)
    wait_for(lambda: not any(is_alive(child) for child in children), 20)
    assert 1 <= n_pieces(root) < N_PIECES
    assert finish(root)["images"] == N_IMAGES
    assert n_pieces(root) <= N_PIECES + 1, "at most the line that was being written is lost"


def is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_a_killed_decoder_ends_the_check_with_a_word_and_not_with_a_hang(
    started: subprocess.Popen[str], root: Path
) -> None:
    decoder = next(child for child in children_of(started) if "spawn_main" in str(child.cmdline()))
    decoder.kill()
    _, err = started.communicate(timeout=30)
    assert started.returncode == 1
    assert "rib: a process that decodes was killed" in err
    assert "Traceback" not in err
    assert finish(root)["images"] == N_IMAGES


def test_progress_is_plain_lines_where_there_is_no_terminal(root: Path) -> None:
    process = start(root)
    out, err = process.communicate(timeout=120)
    assert err.splitlines()[-1] == f"val: {N_IMAGES} of {N_IMAGES} images decoded"
    assert "\x1b" not in err
    assert "all decoded" in out
