"""The processes that load images for this one, started in hundredths of a second.

They are forked from a server that has imported all that they need. Forked from this process they
would deadlock under Ray (ray-project/ray 13407, 52641); started by themselves they would import
PyTorch for seconds, for each split of each set.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any

_ONE_AT_A_TIME = threading.Lock()
"""Of two threads in `_no_program`, the second would take for known what the first has changed."""


class _Process(ForkServerProcess):
    """A process that does not begin with the program of the one that starts it.

    Else it would import that anew: under Ray, Ray itself; of a user the script, which then begins
    to run a grid.
    """

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802 (multiprocessing's name)
        with _ONE_AT_A_TIME, _no_program():
            return ForkServerProcess._Popen(process_obj)


class LoaderContext(ForkServerContext):
    """How PyTorch's loaders start their processes."""

    Process = _Process

    def __init__(self, imports: Sequence[str]) -> None:
        """Prepare.

        Args:
            imports: the modules that the server imports.
        """
        super().__init__()
        self.set_forkserver_preload(list(imports))


@contextmanager
def _no_program() -> Iterator[None]:
    """Have multiprocessing find no file or module that this process is the program of."""
    program: dict[str, Any] = vars(sys.modules["__main__"])
    names = ("__spec__", "__file__")
    known: dict[str, Any] = {name: program[name] for name in names if name in program}
    program.pop("__file__", None)
    program["__spec__"] = None
    try:
        yield
    finally:
        program.update(known)
