"""Reading YAML as plain data, knowing on which line every value stands."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from workers.errors import Problem, UserError

Location = tuple[str | int, ...]
"""The keys and list positions that lead to a value."""


class _Loader(yaml.SafeLoader):
    """A SafeLoader that takes 1e-3 for a number, as everyone but YAML 1.1 does."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*)(\.[\d_]*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)


@dataclass(frozen=True)
class Document:
    """A YAML mapping and where in its file everything stands."""

    name: str
    value: dict[str, Any]
    lines: dict[Location, int] = field(default_factory=dict)

    def where(self, location: Location) -> str:
        """Say where a value stands, as `file:line: key[2].key`."""
        path = ""
        for part in location:
            path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
        known = location
        while known and known not in self.lines:
            known = known[:-1]
        place = f"{self.name}:{self.lines[known]}" if known in self.lines else self.name
        return f"{place}: {path}" if path else place


def read_yaml(path: Path) -> Document:
    """Read a YAML file that holds one mapping.

    Raises:
        UserError: when it cannot be read, is no mapping, gives a key twice, or asks for objects.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise UserError([Problem(str(path), f"cannot be read: {reason}")]) from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, name: str) -> Document:
    """Parse the text of a YAML file; see `read_yaml`."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        value: Any = None if node is None else loader.construct_document(node)
    except (yaml.YAMLError, ValueError) as error:
        raise UserError([_syntax_problem(error, name)]) from error
    except RecursionError as error:
        raise UserError([Problem(name, "is nested too deeply")]) from error
    if not isinstance(node, yaml.MappingNode):
        kind = "empty" if value is None else f"a {type(value).__name__}"
        raise UserError([Problem(name, f"a grid is a mapping of keys to values, this is {kind}")])
    document = Document(name, value)
    problems: list[Problem] = []
    _locate(node, (), document, problems, ())
    if problems:
        raise UserError(problems)
    return document


def _locate(
    node: yaml.Node,
    location: Location,
    document: Document,
    problems: list[Problem],
    around: tuple[yaml.Node, ...],
) -> None:
    """Note the line of a value and of all that is in it. `around` are the values that it is in."""
    document.lines[location] = node.start_mark.line + 1
    if node in around:
        problems.append(Problem(document.where(location), "an alias of what it is a part of"))
        return
    around = (*around, node)
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _locate(item, (*location, index), document, problems, around)
    elif isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, item in node.value:
            inner = (*location, str(key.value))
            _locate(item, inner, document, problems, around)
            document.lines[inner] = key.start_mark.line + 1
            if key.value in seen:
                problems.append(Problem(document.where(inner), "this key is given twice"))
            seen.add(key.value)


def _syntax_problem(error: Exception, name: str) -> Problem:
    mark = getattr(error, "problem_mark", None)
    where = name if mark is None else f"{name}:{mark.line + 1}"
    if isinstance(error, yaml.constructor.ConstructorError):
        return Problem(where, f"{error.problem}", "only plain values are allowed in a grid")
    if isinstance(error, yaml.reader.ReaderError):
        return Problem(where, f"is not valid YAML: {error.reason} (#x{error.character:04x})")
    said = (getattr(error, "context", None), getattr(error, "problem", None))
    reason = ", ".join(part for part in said if part) or str(error)
    return Problem(where, f"is not valid YAML: {reason}")
