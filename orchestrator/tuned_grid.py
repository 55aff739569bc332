"""Writing a grid with what was found: the file as it was, with `choices` below."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import yaml

from orchestrator.grid import Grid, resolve_grid
from orchestrator.search import Finding
from orchestrator.tune_keys import ChoiceEntry
from orchestrator.yaml_source import parse_yaml
from workers.errors import Problem, UserError

HEAD = "# Chosen by held-out images of each downstream set; in place of the values above."

WIDTH = 100
"""Columns of what is written."""


def check_out(out: Path) -> None:
    """Check that a grid can be written to a file, before a search rather than after it.

    Raises:
        UserError: when it cannot.
    """
    if out.is_dir():
        raise UserError([Problem("--out", f"{out} is a folder")])
    if not out.parent.is_dir():
        raise UserError([Problem("--out", f"there is no folder {out.parent}")])


def tuned_grid(text: str, grid: Grid, findings: Iterable[Finding]) -> str:
    """Return a grid's text with its choices in place of those that it has.

    Args:
        text: the grid as it was written: comments and order stay.
        grid: the same, read.
        findings: what was found; choices for anything else stay as they are.
    """
    choices = dict(grid.choices)
    for finding in findings:
        choice = finding.choice
        if choice is not None:
            source = source_of(finding, grid.store)
            choices[choice.key] = choice.model_copy(update={"source": source})
    body = without_choices(text).rstrip("\n") + "\n" + choices_block(choices.values())
    resolve_grid(parse_yaml(body, "the tuned grid"), grid.store)  # whatever is written can be read
    return body


def source_of(finding: Finding, store: str) -> str:
    """Say in a line where a choice comes from."""
    best, own = finding.best, finding.own
    assert best is not None, "a search that chose nothing is the source of nothing"
    search = f"search {finding.search.search_id} of {len(finding.rows)} trials in {store}"
    right = f"trial {best['trial']} got {best['held_out_correct']}/{best['held_out_total']}"
    grids = f", the values above {own['held_out_correct']}" if own is not None else ""
    return f"{search}, {right} held-out images right{grids}"


def choices_block(choices: Iterable[ChoiceEntry]) -> str:
    """Write choices as YAML; nothing where there are none."""
    written = [
        {name: part for name, part in choice.model_dump(mode="json").items() if part}
        for choice in choices
    ]
    if not written:
        return ""
    block: str = yaml.safe_dump(
        {"choices": written}, default_flow_style=None, sort_keys=False, width=WIDTH
    )
    return f"\n{HEAD}\n{block}"


def without_choices(text: str) -> str:
    """Cut the key `choices` out of a grid's text, with the comment that `rib tune` puts above it.

    Raises:
        UserError: when the grid is written in braces, which nothing can be added below.
    """
    text = text.replace(f"\n{HEAD}\n", "\n")
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(node, yaml.MappingNode), "the grid has been read"
    if node.flow_style:
        hint = "write it as one 'key: value' a line"
        raise UserError([Problem("--out", "the grid is written in braces", hint)])
    lines = text.splitlines(keepends=True)
    starts = [key.start_mark.line for key, _ in node.value] + [len(lines)]
    for index, (key, _) in enumerate(node.value):
        if key.value == "choices":
            del lines[starts[index] : starts[index + 1]]
    return "".join(lines)
