"""HTML pages from templates; whatever is filled in is escaped, for labels come from strangers."""

from __future__ import annotations

import functools
from importlib import resources
from typing import Any

import jinja2

from tlkit.errors import printable


@functools.cache
def template(name: str) -> jinja2.Template:
    """Return a template of this folder, ready to be rendered."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_source),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "visible": printable}
    return environment.get_template(name)


def _source(name: str) -> str:
    return resources.files("tlkit.reporting").joinpath(name).read_text("utf-8")


def number(value: Any) -> str:
    """Return a cell of a table as it is read: four digits of a number, a dash for None."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.3f}" if 0.0005 <= abs(value) < 1000 or value == 0 else f"{value:.4g}"
    return printable(str(value))


def words(name: str) -> str:
    """Return the name of a field as it is read."""
    return name.replace("_", " ")
