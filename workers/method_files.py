"""Methods in files of a user's own: read where the grid is, and brought to every worker as text.

A file is code, and is run. It comes from the machine that the grid is started on and never from a
store, so that reading somebody's store runs nothing of theirs.
"""

from __future__ import annotations

import hashlib
import importlib.abc
import importlib.util
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from workers.errors import Problem, UserError

if TYPE_CHECKING:
    from workers.methods.base import Method

PREFIX = "rib_method_"

_ADOPTED: dict[str, dict[str, type[Method]]] = {}
"""The methods of each file that this process has adopted, by the digest of its text."""


@dataclass(frozen=True)
class MethodFile:
    """A Python file with methods in it, as it was read."""

    path: str
    text: str

    @classmethod
    def read(cls, path: Path) -> MethodFile:
        """Read a file.

        Raises:
            OSError: when it cannot be read.
            UnicodeDecodeError: when it is no text.
        """
        return cls(str(path), path.read_text(encoding="utf-8"))

    @cached_property
    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(self.text.encode()).hexdigest()}"

    @property
    def module_name(self) -> str:
        return PREFIX + self.digest.removeprefix("sha256:")[:16]

    def adopt(self) -> None:
        """Let this process know the file's methods; a changed file's take its old ones' place.

        Raises:
            UserError: when the file does not run, has no method, or one of a name that is taken.
        """
        if self.digest in _ADOPTED:
            return
        from workers.methods import Method, methods

        methods()  # those that are built in come first: their names are taken
        before = dict(Method.registered)
        _forget(self.path)
        try:
            module = self._run()
            found = {n: kind for n, kind in Method.registered.items() if _is_of(kind, module)}
            if not found:
                raise UserError([Problem(self.path, "has no method", "a Method with a name")])
        except BaseException:
            Method.registered.clear()
            Method.registered.update(before)
            sys.modules.pop(self.module_name, None)
            raise
        _ADOPTED[self.digest] = found

    def _run(self) -> ModuleType:
        """Run the file as a module of its own."""
        name = self.module_name
        loader = _Loader(self)
        spec = importlib.util.spec_from_loader(name, loader, origin=self.path)
        assert spec is not None, f"{name} is a name of a module"
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # pydantic looks its types up there
        try:
            loader.exec_module(module)
        except UserError:
            raise
        except SyntaxError as error:
            where = f"{self.path}:{error.lineno}"
            raise UserError([Problem(where, f"is not valid Python: {error.msg}")]) from error
        except Exception as error:  # whatever the user's code makes of being run
            message = f"does not run: {type(error).__name__}: {error}"
            raise UserError([Problem(self.path, message)]) from error
        return module


def adopted() -> dict[str, type[Method]]:
    """Return the methods that this process has adopted, by name."""
    return {name: kind for found in _ADOPTED.values() for name, kind in found.items()}


def _forget(path: str) -> None:
    """Let go of what a file of this path had, if it was adopted before it was changed."""
    from workers.methods.base import Method

    for digest, found in list(_ADOPTED.items()):
        modules = {sys.modules[kind.__module__] for kind in found.values()}
        if any(module.__spec__ and module.__spec__.origin == path for module in modules):
            for name in found:
                Method.registered.pop(name, None)
            del _ADOPTED[digest]


def _is_of(kind: type[Method], module: ModuleType) -> bool:
    return kind.__module__ == module.__name__


class _Loader(importlib.abc.InspectLoader):
    """Runs a module from text."""

    def __init__(self, file: MethodFile) -> None:
        self._file = file

    def get_source(self, fullname: str) -> str:  # noqa: ARG002
        return self._file.text

    def get_code(self, fullname: str):  # type: ignore[no-untyped-def]
        return self.source_to_code(self.get_source(fullname), self._file.path)
