"""What the documentation says of a grid's keys is what the code has."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from orchestrator.distance_keys import Distance
from orchestrator.evaluation_keys import CurveKeys
from orchestrator.grid_file import (
    REQUIRED,
    GridFile,
    ModelEntry,
    Resources,
    Throughput,
    TransformOverrides,
    parse_grid_file,
)
from orchestrator.tune_keys import ChoiceEntry, Domain, Tune
from orchestrator.yaml_source import parse_yaml
from workers.methods import methods
from workers.recipe import Recipe

PROJECT = Path(__file__).resolve().parents[1]
GRIDS = (PROJECT / "docs" / "grids.md").read_text()
METHODS = (PROJECT / "docs" / "methods.md").read_text()

SECTIONS: dict[type[BaseModel], str] = {
    GridFile: "## The grid",
    ModelEntry: "## models",
    TransformOverrides: "The keys of `transform`",
    Recipe: "## recipe",
    CurveKeys: "## curve",
    Resources: "## resources",
    Throughput: "## throughput",
    Distance: "## distance",
    Tune: "## tune",
    Domain: "The values of a key; exactly one",
    ChoiceEntry: "## choices",
}


def table_after(
    beginning: str, head: str = "| key | default |", page: str = GRIDS
) -> dict[str, list[str]]:
    """Return the first table with a head after a text: first column -> the others."""
    text = page[page.index(f"\n{beginning}") :]
    table = text[text.index(head) :].split("\n\n")[0]
    rows = [re.split(r"\s*\|\s*", line.strip("| ")) for line in table.splitlines()[2:]]
    return {row[0].strip("`"): row[1:] for row in rows}


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_every_key_of_a_grid_is_documented_with_its_default(section: type[BaseModel]) -> None:
    table = table_after(SECTIONS[section])
    assert set(table) == set(section.model_fields)
    for key, (default, *_) in table.items():
        assert says(default) == truth(section, key), key


def says(default: str) -> Any:
    """Return what a default in the table stands for."""
    if default in ("required", "see below"):
        return default
    return None if default == "—" else parse_yaml(f"x: {default.strip('`')}", "docs").value["x"]


def truth(section: type[BaseModel], key: str) -> Any:
    field = section.model_fields[key]
    if field.is_required() or (section is GridFile and key in REQUIRED):
        return "required"
    default = field.get_default(call_default_factory=True)
    return "see below" if isinstance(default, BaseModel) else default


def test_every_method_is_documented_with_its_hyperparameters() -> None:
    table = table_after("A method that another starts from", "| method | hyper-parameters |")
    assert_lists_methods({name: listed for name, (listed, _) in table.items()})


def test_every_method_has_its_equation_and_source() -> None:
    table = table_after("θ are the weights", "| method | equation |", METHODS)
    assert_lists_methods({name: row[2] for name, row in table.items()})
    for name, (equation, source, _, difference) in table.items():
        assert equation, name
        assert difference, name
        cited = set(re.findall(r"\d{4}\.\d{5}", source))
        module = sys.modules[methods()[name].__module__]
        assert cited <= set(re.findall(r"\d{4}\.\d{5}", module.__doc__ or "")), name


def test_every_option_of_the_recipe_is_explained_with_its_default() -> None:
    table = table_after("## The recipe", "| option | default |", METHODS)
    assert list(table) == list(Recipe.model_fields)
    for option, (default, meaning) in table.items():
        assert says(default) == truth(Recipe, option), option
        assert meaning, option


def test_what_is_said_of_refusals_is_what_is_said() -> None:
    """Each message that the page quotes is in the code, as far as it is fixed text."""
    code = "".join(
        path.read_text()
        for folder in ("workers", "orchestrator")
        for path in (PROJECT / folder).rglob("*.py")
    )
    table = table_after("Before anything runs", "| method | on or with |", METHODS)
    assert len(table) > 5
    for _, message in table.values():
        for part in re.split(r"\[\.\.\.\]|-?\d+|visual-prompt", message.strip("`")):
            assert part.strip(" ,") in code, message


def assert_lists_methods(listed_by_name: dict[str, str]) -> None:
    """Check that all methods are there, with the default of each hyper-parameter."""
    assert set(listed_by_name) == set(methods())
    for name, listed in listed_by_name.items():
        config = methods()[name].Config()
        said = [parse_yaml(one, "docs").value for one in re.findall(r"`(.*?)`", listed)]
        assert {k: v for one in said for k, v in one.items()} == config.model_dump(mode="json"), (
            name
        )


@pytest.mark.parametrize("example", re.findall(r"```yaml\n(.*?)```", GRIDS + METHODS, re.DOTALL))
def test_the_examples_are_parts_of_a_grid(example: str) -> None:
    document = parse_yaml(example, "docs")
    _, problems = parse_grid_file(document)
    missing = [f"the key {key!r} is missing" for key in REQUIRED if key not in document.value]
    assert [problem.message for problem in problems] == missing


def test_every_grid_of_the_project_is_documented() -> None:
    for path in (PROJECT / "grids").glob("*.yaml"):
        assert f"`grids/{path.name}`" in GRIDS
