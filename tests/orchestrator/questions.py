"""What `test_apart` asks in a process of its own."""

import importlib
import os
import signal
import sys

from workers.errors import Problem, UserError


def import_there(module: str) -> tuple[int, bool]:
    importlib.import_module(module)
    return os.getpid(), module in sys.modules


def complain(where: str) -> None:
    raise UserError([Problem(where, "no good")])


def chatter() -> str:
    sys.stdout.write("this is on standard output\n")
    os.write(1, b"and so is this\n")
    return "the answer"


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
