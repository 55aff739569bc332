"""What a user adds from outside: a suite that is declared in YAML, and methods in Python files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator.grid_file import GridFile, validate
from orchestrator.paths import expand
from orchestrator.yaml_source import Document, Location, parse_yaml, read_yaml
from workers.errors import Problem, UserError, nearest
from workers.method_files import MethodFile
from workers.store import Store
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
    if not is_path(file.suite):
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


def is_path(name: str) -> bool:
    """Whether a suite is given by the file that declares it."""
    return "/" in name or name.endswith((".yaml", ".yml"))


def find_suite(name: str) -> Suite:
    """Return a suite by its name, or by the file that declares it.

    Raises:
        UserError: with the nearest name, or with every problem in the file.
    """
    if is_path(name):
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


def stored_declaration(store: Store) -> SuiteDeclaration | None:
    """Return what declared the suite that a store was filled by; None when it is built in.

    Reading the whole grid would adopt the suite, and need the files of the grid's methods.

    Raises:
        UserError: with every problem in it.
    """
    if not store.storage.exists("grid.yaml"):
        return None
    document = parse_yaml(store.read_grid(), f"{store.uri}/grid.yaml")
    raw = document.value.get("suite")
    if not isinstance(raw, dict):
        return None
    problems: list[Problem] = []
    declaration = validate(SuiteDeclaration, raw, document, ("suite",), problems)
    if problems:
        raise UserError(problems)
    return declaration


def check_unchanged(suite: Suite, before: SuiteDeclaration | None) -> None:
    """Check that a declared suite is what it was when a store was filled. Sets may be added.

    Args:
        suite: of the grid that is to be run.
        before: what declared the store's, if anything did.

    Raises:
        UserError: when its classes or a set have changed and its version has not.
    """
    if suite.declaration is None or before is None or before.version != suite.version:
        return
    now = SuiteDeclaration.model_validate(dict(suite.declaration))
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
