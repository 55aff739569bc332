"""One page from what was gathered: templates filled in, style and script put inside.

Whatever a store holds is escaped: Jinja escapes it in the markup, the data that the script draws
from are JSON without any `<`, and the script puts text in as text. Were something to slip through,
the page's content security policy lets no script run but its own, and nothing be fetched.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files

import jinja2
from markupsafe import Markup

from orchestrator.report.html import numbers
from orchestrator.report.html.context import Context
from orchestrator.report.html.payload import payload
from orchestrator.report.numbers import DASH
from orchestrator.report_data import ReportData

SCRIPTS = ("dom", "state", "board", "heatmap", "bars", "radar", "lines", "scatter", "main")
"""Of the page, in the order in which they stand in it."""

FILTERS = ("points", "count", "hours", "gibibytes", "raw", "breakable")
"""Of `orchestrator.report.html.numbers`, what the templates use."""


def render(data: ReportData, every: float | None = None) -> str:
    """Return a page that needs nothing but itself.

    Args:
        data: what it shows.
        every: after how many seconds it loads itself anew; None for a page that stays as it is.
    """
    theme, script = _static("theme.js"), _script()
    template = _environment().get_template("page.html.j2")
    return template.render(
        data=data,
        page=Context(data),
        sets=data.results.sets,
        payload=payload(data),
        style=_own(_static("page.css")),
        theme_script=_own(theme),
        script=_own(script),
        script_sources=_own(f"{_source_of(theme)} {_source_of(script)}"),
        every=None if every is None else f"{every:g}",
        DASH=DASH,
    )


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("orchestrator.report.html"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {name: getattr(numbers, name) for name in FILTERS}
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return environment


@cache
def _script() -> str:
    parts = "\n".join(_static(f"{name}.js") for name in SCRIPTS)
    return f'(() => {{\n"use strict";\n{parts}}})();\n'


def _static(name: str) -> str:
    return (files("orchestrator.report.html") / "static" / name).read_text(encoding="utf-8")


def _own(text: str) -> Markup:
    """Mark text that is part of this package, and of nothing that was read, as no danger."""
    return Markup(text)


def _source_of(script: str) -> str:
    """Return how a content security policy names a script that may run (CSP level 3, 2.3.1)."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
