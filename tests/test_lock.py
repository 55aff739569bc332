"""`requirements.lock` pins all that the project asks for, its extras and what they need in turn."""

import tomllib
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).resolve().parents[1]


def pinned() -> dict[str, str]:
    """Return the version of each package in the lock, by its canonical name."""
    lines = (PROJECT / "requirements.lock").read_text().splitlines()[1:]
    assert lines == sorted(lines, key=str.lower)
    return {canonicalize_name(name): version for name, version in (x.split("==") for x in lines)}


def test_what_the_project_and_its_extras_need_is_pinned() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    extras: dict[str, list[str]] = project["optional-dependencies"]
    asked = [*project["dependencies"], *(one for extra in extras.values() for one in extra)]
    waiting = [(Requirement(one), "") for one in asked if not one.startswith(project["name"])]
    assert len(waiting) > 30
    versions, seen, wrong = pinned(), set(), []
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        if name not in versions or not requirement.specifier.contains(versions[name], True):
            wrong.append(f"{requirement}: {versions.get(name)}")
            continue
        for wanted in ("", *requirement.extras):
            if (name, wanted) not in seen:
                seen.add((name, wanted))
                waiting += [(Requirement(one), wanted) for one in requires(name) or ()]
    assert not wrong


def test_the_development_extra_has_every_other_one() -> None:
    """What is not installed where the tests run is not tested."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    (own,) = (one for one in extras["dev"] if one.startswith(project["name"]))
    assert Requirement(own).extras == set(extras) - {"dev"}
