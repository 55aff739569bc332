"""A process of its own for a question, so that what it takes to answer is not kept.

Checking models needs PyTorch and timm, some 700 MiB that a driver would hold for weeks and has no
other use for.
"""

from __future__ import annotations

import importlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from operator import attrgetter
from typing import ParamSpec, TypeVar

Given = ParamSpec("Given")
Answer = TypeVar("Answer")


def apart(function: Callable[Given, Answer], *args: Given.args, **kwargs: Given.kwargs) -> Answer:
    """Call a function in a new process and return its answer, or raise its exception.

    A plain `multiprocessing` process would run the user's script again, which need not be written
    for that.

    Args:
        function: importable by its name.
        args: what it is called with; they are pickled, as is the answer.
        kwargs: likewise.

    Raises:
        ChildProcessError: when the process died without an answer.
    """
    question = pickle.dumps((sys.path, function.__module__, function.__qualname__, args, kwargs))
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.apart"],
        input=question,
        stdout=subprocess.PIPE,
        check=False,
    )
    if done.returncode:
        what = f"{function.__module__}.{function.__qualname__}"
        raise ChildProcessError(
            f"{what}, asked in a process of its own, ended it: {done.returncode}"
        )
    answer, error = pickle.loads(done.stdout)  # noqa: S301  # from our own child
    if error is not None:
        raise error
    result: Answer = answer
    return result


def answer() -> None:
    """Be the new process: read the question, and write the answer where nothing else is printed."""
    out = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    sys.path[:], module, name, args, kwargs = pickle.load(sys.stdin.buffer)  # noqa: S301
    try:
        function = attrgetter(name)(importlib.import_module(module))
        told: tuple[object, Exception | None] = (function(*args, **kwargs), None)
    except Exception as error:
        told = (None, error)
    with suppress(BrokenPipeError), os.fdopen(out, "wb") as pipe:  # who asked may have died
        pickle.dump(told, pipe)


if __name__ == "__main__":
    answer()
