"""What a user adds from outside: a suite that is declared in YAML, and methods in Python files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from orchestrator.grid_file import GridFile, validate
from orchestrator.paths import expand
from orchestrator.yaml_source import Document, Location, read_yaml
from workers.errors import Problem, UserError, nearest
from workers.method_files import MethodFile
from workers.suites import Suite, adopt, suites
from workers.suites._declared import SuiteDeclaration


def resolve_suite(file: GridFile, document: Document, problems: list[Problem]) -> Suite | None:
    """Return the suite that a grid names or declares; append what is wrong with it."""
    where = document.where(("suite",))
    if file.suite is None:
        return None
    if isinstance(file.suite, dict):
        return _declared(file.suite, document, ("suite",), problems)
    if not isinstance(file.suite, str) or not file.suite:
        message = "should be the name of a suite, or a file or mapping that declares one"
        problems.append(Problem(where, message))
        return None
    if not _is_path(file.suite):
        if file.suite not in suites():
            hint = nearest(file.suite, suites())
            problems.append(Problem(where, f"unknown suite {file.suite!r}", hint))
        return suites().get(file.suite)
    place = expand(file.suite, where, problems)
    try:
        return None if place is None else load_suite(Path(place))
    except UserError as error:
        problems.extend(error.problems)
        return None


def find_suite(name: str) -> Suite:
    """Return a suite by its name, or by the file that declares it.

    Raises:
        UserError: with the nearest name, or with every problem in the file.
    """
    if _is_path(name):
        return load_suite(Path(name))
    if name not in suites():
        raise UserError([Problem("SUITE", f"unknown suite {name!r}", nearest(name, suites()))])
    return suites()[name]


def load_suite(path: Path) -> Suite:
    """Read a file that declares a suite.

    Raises:
        UserError: with every problem in it.
    """
    document = read_yaml(path)
    problems: list[Problem] = []
    suite = _declared(document.value, document, (), problems)
    if suite is None:
        raise UserError(problems)
    return suite


def resolve_method_files(
    file: GridFile, document: Document, problems: list[Problem]
) -> tuple[MethodFile, ...]:
    """Read a grid's files of methods and let this process know them; append what is wrong."""
    found = []
    for index, entry in enumerate(file.method_files):
        where = document.where(("method_files", index))
        place = expand(entry.path, where, problems)
        if place is None:
            continue
        try:
            source = MethodFile.read(Path(place).resolve())
            if entry.digest not in (None, source.digest):
                message = f"{source.path} is not the file that the grid was run with"
                raise UserError([Problem(where, message, f"that had the digest {entry.digest}")])
            source.adopt()
        except (OSError, UnicodeDecodeError) as error:
            problems.append(Problem(where, f"cannot read {place}: {error}"))
        except UserError as error:
            problems.extend(error.problems)
        else:
            found.append(source)
    return tuple(found)


def check_unchanged(suite: Suite, stored: str) -> None:
    """Check that a declared suite is what it was when a store was filled. Sets may be added.

    Args:
        suite: of the grid that is to be run.
        stored: the text of the store's grid, empty when it has none.

    Raises:
        UserError: when its classes or a set have changed and its version has not.
    """
    was = (yaml.safe_load(stored) or {}).get("suite") if suite.declaration is not None else None
    if not isinstance(was, dict) or was.get("version") != suite.version:
        return
    now = SuiteDeclaration.model_validate(dict(suite.declaration or {}))
    before = SuiteDeclaration.model_validate(was)
    sets = {one.name: one for one in (now.id, *now.ood)}
    changed = [
        f"the set {one.name!r}"
        for one in (before.id, *before.ood)
        if one.name in sets and sets[one.name] != one
    ]
    changed += ["the classes"] if now.classes != before.classes else []
    if changed:
        what = f"{' and '.join(changed)} changed since the store's rows were made"
        raise UserError([Problem(f"suite {suite.name!r}", what, "raise its version")])


def _is_path(name: str) -> bool:
    return "/" in name or name.endswith((".yaml", ".yml"))


def _declared(
    raw: Any, document: Document, location: Location, problems: list[Problem]
) -> Suite | None:
    declaration = validate(SuiteDeclaration, raw, document, location, problems)
    if declaration is None:
        return None
    try:
        suite = declaration.suite()
        adopt(suite)
    except UserError as error:
        problems.extend(error.problems)
        return None
    return suite
