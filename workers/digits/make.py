"""Making `digits-rib`: its images, and its models pre-trained on them."""

from __future__ import annotations

import multiprocessing
import shutil
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from workers.digits.images import make_images
from workers.errors import Problem, UserError


def make(root: Path) -> None:
    """Make the whole suite below `root`, which must be empty or absent: all of it or nothing.

    Raises:
        UserError: when there is something in `root`.
    """
    if root.exists() and any(root.iterdir()):
        hint = "choose an empty folder, or delete it to make the suite again"
        raise UserError([Problem(str(root), "is not empty", hint)])
    root.parent.mkdir(parents=True, exist_ok=True)
    # Made beside its place and moved there whole, so that no half-made suite is ever used.
    unfinished = Path(tempfile.mkdtemp(prefix=f".{root.name}.", dir=root.parent))
    try:
        make_images(unfinished)
        _make_models(unfinished)
        unfinished.chmod(0o755)
        if root.exists():
            root.rmdir()
        unfinished.rename(root)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _make_models(root: Path) -> None:
    """Pre-train every model, each in a process and on a core of its own."""
    from workers.suites import suites

    names = [model.name for model in suites()["digits-rib"].models]
    (root / "models").mkdir()
    # Spawned, not forked: torch's threads do not survive a fork.
    with ProcessPoolExecutor(len(names), multiprocessing.get_context("spawn")) as pool:
        list(pool.map(_make_model, names, [root] * len(names)))


def _make_model(name: str, root: Path) -> None:
    from workers.digits.pretrain import pretrain
    from workers.suites import suites

    suite = suites()["digits-rib"]
    model = next(model for model in suite.models if model.name == name)
    (root / str(model.file)).write_bytes(pretrain(suite, model, root))
