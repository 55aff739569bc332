"""Every key of a grid as a page of the documentation, from the models that check grids.

`python -m orchestrator.grid_keys` prints docs/grid-keys.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import BaseModel

from orchestrator.distance_keys import Distance
from orchestrator.evaluation_keys import CurveKeys
from orchestrator.grid_file import (
    REQUIRED,
    GridFile,
    ImageCache,
    MethodFileEntry,
    ModelEntry,
    Resources,
    Throughput,
    TransformOverrides,
)
from orchestrator.tune_keys import ChoiceEntry, Domain, Tune
from workers.methods import methods
from workers.recipe import Augmentation, Recipe
from workers.suites._declared import SetDeclaration, SuiteDeclaration

Schema = dict[str, Any]

BEGINNING = """\
# Every key of a grid

Each key of a grid file with its type, its default and what is allowed, as the code has them: this
page is made of the models that check grids, by `python -m orchestrator.grid_keys`, and a test
compares the two. [grids.md](grids.md) explains them, with examples. A key that is not here is
refused.

A dash means that a key has no default and may be left out. Types are strict: `"10"` is no number.
"""

METHODS = """\
## methods

Each entry has the key `method`, and may have a `name` (what tables call it, if not by its method)
and `only_models` (names or shell patterns of the models that it is for). Its other keys are
hyper-parameters of the method. [methods.md](methods.md) has the formulas.
"""

SECTIONS: dict[str, type[BaseModel]] = {
    "The grid": GridFile,
    "models": ModelEntry,
    "models: transform": TransformOverrides,
    "method_files": MethodFileEntry,
    "recipe": Recipe,
    "recipe: augment": Augmentation,
    "curve": CurveKeys,
    "resources": Resources,
    "image_cache": ImageCache,
    "throughput": Throughput,
    "distance": Distance,
    "tune": Tune,
    "tune: space": Domain,
    "choices": ChoiceEntry,
    "suite": SuiteDeclaration,
    "suite: its sets": SetDeclaration,
}
"""Heading -> the model whose keys stand below it."""

PATTERNS = {
    r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$": "letters, digits and `. _ + -`, a letter or digit first",
    r"^sha256:[0-9a-f]{64}$": "`sha256:` and 64 hexadecimal digits",
    r"^[^/\x00]*[^/\x00.][^/\x00]*$": "the name of a folder",
    r"^(rand|augmix|original|v0|3a)": "begins with `rand`, `augmix`, `original`, `v0` or `3a`",
}
"""What the patterns of the models mean, in words."""

BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "up to {}",
    "exclusiveMaximum": "below {}",
}

WORDS = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "`true` or `false`",
}


def page() -> str:
    """Return the page as Markdown."""
    return "\n".join([BEGINNING, *_sections()])


def _sections() -> Iterator[str]:
    for heading, model in SECTIONS.items():
        if model is MethodFileEntry:
            yield METHODS
            yield from _methods()
        beginning = "" if model is GridFile else f"{_summary(model)}\n\n"
        yield f"## {heading}\n\n{beginning}{table(model)}"


def _methods() -> Iterator[str]:
    for name, kind in methods().items():
        keys = "No hyper-parameters.\n"
        if kind.Config.model_fields:
            keys = table(kind.Config, kind.expands)
        yield f"### {name}\n\n{_summary(kind)}\n\n{keys}"


def _summary(described: type) -> str:
    """Return the first sentence of a class's docstring, as it is in Markdown."""
    return (described.__doc__ or "").split("\n")[0].replace("*", r"\*")


def table(model: type[BaseModel], expands: str | None = None) -> str:
    """Return a model's keys as a table.

    Args:
        model: whose keys.
        expands: the key that may have a list of values, each of which makes a cell.
    """
    schema = model.model_json_schema()
    needed = REQUIRED if model is GridFile else schema.get("required", ())
    rows = ["| key | type | default | allowed | meaning |", "|-|-|-|-|-|"]
    for key, field in schema["properties"].items():
        field.setdefault("default", model.model_fields[key].get_default(call_default_factory=True))
        default = "required" if key in needed else _default(field)
        kind = kind_of(field) + (", or a list: a cell of each" if key == expands else "")
        cells = (f"`{key}`", kind, default, allowed(field), field["description"])
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def _default(field: Schema) -> str:
    if "$ref" in field:
        return "its defaults"
    if field["default"] is None:
        return "—"
    written = yaml.safe_dump(field["default"], default_flow_style=True, width=1000)
    return f"`{written.removesuffix('...' + chr(10)).strip()}`"


def _branches(field: Schema) -> list[Schema]:
    """Return what a value may be; nothing of that it may be left out."""
    return [one for one in field.get("anyOf", [field]) if one.get("type") != "null"]


def _is_size(branches: list[Schema]) -> bool:
    """Whether a value is a number of bytes, which may also be written as text."""
    return {"string", "integer"} == {one.get("type") for one in branches}


def kind_of(field: Schema) -> str:
    """Return the type of a value in words."""
    branches = _branches(field)
    if _is_size(branches):
        return "bytes, or text such as `20GiB`"
    return " or ".join(_kind(one) for one in branches)


def _kind(one: Schema) -> str:
    if "$ref" in one:
        return f"[mapping](#{_anchor(one['$ref'])})"
    if "const" in one:
        return f"`{one['const']}`"
    if one.get("type") == "array":
        items = one["items"] if "items" in one else one["prefixItems"][0]
        return "list" if not items else f"list of {_plural(items)}"
    if one.get("type") == "object":
        values = one.get("additionalProperties")
        return f"mapping to {_plural(values)}" if isinstance(values, dict) else "mapping"
    return WORDS[one["type"]]


def _plural(items: Schema) -> str:
    kind = _kind(items)
    if kind == "text" or kind.startswith("mapping to"):
        return {"text": "texts"}.get(kind, kind.replace("mapping", "mappings", 1))
    return kind.replace("mapping]", "mappings]") if "mapping]" in kind else f"{kind}s"


def _anchor(reference: str) -> str:
    """Return the anchor of the section with the keys of a model."""
    name = reference.rsplit("/", 1)[-1]
    heading = next(h for h, model in SECTIONS.items() if model.__name__ == name)
    return heading.lower().replace(":", "").replace(" ", "-")


def allowed(field: Schema) -> str:
    """Return what a value has to be beyond its type, in words."""
    branches = _branches(field)
    if _is_size(branches):
        return "at least 0"
    return "; ".join(filter(None, (", ".join(_limits(one)) for one in branches)))


def _limits(one: Schema) -> Iterator[str]:
    if "enum" in one:
        *others, last = (f"`{value}`" for value in one["enum"])
        yield f"{', '.join(others)} or {last}"
    if "pattern" in one:
        yield PATTERNS[one["pattern"]]
    if one.get("type") == "string":
        if "maxLength" in one:
            yield f"up to {one['maxLength']} characters"
        if one.get("minLength"):
            yield "not empty"
    for bound, words in BOUNDS.items():
        if bound in one:
            yield words.format("2⁶³" if one[bound] == 2**63 else f"{one[bound]:g}")
    if one.get("type") == "array":
        yield from _list_limits(one)
    if isinstance(one.get("additionalProperties"), dict) and (
        inner := ", ".join(_limits(one["additionalProperties"]))
    ):
        yield f"each {inner}"


def _list_limits(one: Schema) -> Iterator[str]:
    fewest, most = one.get("minItems", 0), one.get("maxItems")
    if most is not None and most == fewest:
        yield f"{most} of them"
    elif fewest:
        yield "not empty" if fewest == 1 else f"at least {fewest} of them"
    items = one["items"] if "items" in one else one["prefixItems"][0]
    if inner := ", ".join(_limits(items)):
        yield f"each {inner}"


if __name__ == "__main__":
    sys.stdout.write(page())
