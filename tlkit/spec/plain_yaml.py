"""YAML as people type it: text where an option takes text, numbers as they are written.

YAML 1.1 turns `on` into true, `2024-01-01` into a date, `010` into 8 and `1:30` into 90. Here the
option decides: one that takes text gets what was typed, and a number is what it looks like.
"""

from __future__ import annotations

import re
import types
import typing
from typing import Any

import yaml
from pydantic import BaseModel

from tlkit.errors import received

_CORE = "tag:yaml.org,2002:"
_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_SCALARS = frozenset(("str", "null", "bool", "int", "float", "timestamp", "merge", "value"))
_INTEGER = re.compile(r"[-+]?[0-9]{1,40}")
"""Longer ones stay text, which an option for numbers refuses: Python reads up to 4,300 digits."""
_FLOAT = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_NO_NUMBER = re.compile(r"([-+]?)\.?(inf|nan)", re.IGNORECASE)


def read_yaml(content: str | bytes, kind: Any = Any) -> Any:
    """Return what `content` says, for an option or part of type `kind`.

    Merge keys and anchors are followed; bytes may be UTF-8 or, with a mark, UTF-16.

    Raises:
        ValueError: it is not YAML, holds a tag that stands for no text, number, list or mapping, a
            key twice, or itself; the message is one line.
    """
    try:
        loader = yaml.SafeLoader(content)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
        return None if node is None else _Reading().value(node, kind)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    except RecursionError as error:
        raise ValueError("lists or mappings stand too deep in each other") from error


def typed(text: str, kind: Any) -> Any:
    """Return the value of an option of type `kind` from what a person typed after `=`.

    An option that takes text gets it as it was typed, less blanks around it and quotes around the
    whole; so `,`, `#`, `a: b` and `on` are text there. Nothing, `null` or `~` is None where the
    option may be empty.

    Raises:
        ValueError: see `read_yaml`.
    """
    if not _takes_text(kind):
        return read_yaml(text, kind)
    bare = text.strip()
    if bare in _NULL and types.NoneType in alternatives(kind):
        return None
    opens = bare[:1] if bare[:1] in ("'", '"') else ""
    opens = "[" if bare[:1] == "[" and any(map(_is_list, alternatives(kind))) else opens
    if not opens:
        return _plain(bare or text, kind)
    try:
        return read_yaml(bare, kind)
    except ValueError:
        if opens == "[":
            raise
        return bare


def alternatives(kind: Any) -> tuple[Any, ...]:
    """Return the types that a value of type `kind` may have."""
    origin = typing.get_origin(kind)
    if origin is typing.Annotated:
        return alternatives(typing.get_args(kind)[0])
    if origin in (types.UnionType, typing.Union):
        return tuple(one for part in typing.get_args(kind) for one in alternatives(part))
    if origin is typing.Literal:
        return tuple({type(value): None for value in typing.get_args(kind)})
    return (kind,)


def part_of(kind: Any, name: str) -> Any:
    """Return the type of the option `name` in a part of the spec; Any where there is none."""
    for one in alternatives(kind):
        if isinstance(one, type) and issubclass(one, BaseModel) and name in one.model_fields:
            return one.model_fields[name].annotation
    return Any


def _takes_text(kind: Any) -> bool:
    return str in alternatives(kind)


def _is_list(kind: Any) -> bool:
    return typing.get_origin(kind) is list


class _Reading:
    """Makes values of nodes; what an anchor stands for is made once, however often it is named."""

    def __init__(self):
        self._made: dict[tuple[int, str], Any] = {}
        self._open: set[int] = set()

    def value(self, node: yaml.Node, kind: Any) -> Any:
        known = (id(node), repr(kind))
        if known in self._made:
            return self._made[known]
        if id(node) in self._open:
            raise ValueError(f"an anchor holds itself{_place(node)}")
        self._open.add(id(node))
        if isinstance(node, yaml.ScalarNode):
            made = _scalar(node, kind)
        elif isinstance(node, yaml.SequenceNode):
            _check_tag(node, ("seq",))
            inner = next((typing.get_args(k)[0] for k in alternatives(kind) if _is_list(k)), Any)
            made = [self.value(item, inner) for item in node.value]
        else:
            made = self._mapping(node, kind)
        self._open.remove(id(node))
        self._made[known] = made
        return made

    def _mapping(self, node: yaml.Node, kind: Any) -> dict[str, Any]:
        _check_tag(node, ("map",))
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for key, value in node.value:
            if key.tag == f"{_CORE}merge":
                merged = {**self._merged(value, kind), **merged}
                continue
            if not isinstance(key, yaml.ScalarNode):
                raise ValueError(f"a key is a list or a mapping{_place(key)}")
            if key.value in own:
                raise ValueError(f"{received(key.value)} stands twice{_place(key)}")
            own[key.value] = self.value(value, part_of(kind, key.value))
        return {**merged, **own}

    def _merged(self, node: yaml.Node, kind: Any) -> dict[str, Any]:
        """Return what a merge key brings: of a mapping, or of a list of them, the first wins."""
        brought: dict[str, Any] = {}
        for item in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            if not isinstance(item, yaml.MappingNode):
                raise ValueError(f"a merge key (<<) takes mappings{_place(item)}")
            brought = {**self.value(item, kind), **brought}
        return brought


def _scalar(node: yaml.ScalarNode, kind: Any) -> Any:
    """Return text, number, truth value or None."""
    text, tag = node.value, _check_tag(node, _SCALARS)
    if node.style in ("'", '"', "|", ">") or tag == "str":
        # Quoted; or plain text, which may still be a number that YAML 1.1 does not see: 1e-3.
        return text if node.style else _plain(text, kind)
    if text in _NULL and (not _takes_text(kind) or types.NoneType in alternatives(kind)):
        return None
    if _takes_text(kind):
        return _plain(text, kind)
    if tag == "bool":
        return yaml.SafeLoader.bool_values.get(text.lower(), text)
    return _number(text)


def _plain(text: str, kind: Any) -> int | float | str:
    """Return text that stands without quotes; a number where an option takes one."""
    text_alone = _takes_text(kind) and not {int, float} & set(alternatives(kind))
    return text if text_alone else _number(text)


def _number(text: str) -> int | float | str:
    """Return a decimal number, or other text as it is: an option for numbers refuses it."""
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if found := _NO_NUMBER.fullmatch(text):
        return float("".join(found.groups()))
    return text


def _check_tag(node: yaml.Node, allowed: typing.Collection[str]) -> str:
    """Return the name of a node's tag.

    Raises:
        ValueError: it is none of `allowed`, such as `!!binary`.
    """
    name = node.tag.removeprefix(_CORE)
    if name not in allowed:
        shown = f"!!{name}" if node.tag.startswith(_CORE) else node.tag
        raise ValueError(f"the tag {received(shown)} stands for nothing here{_place(node)}")
    return name


def _place(node: yaml.Node) -> str:
    mark = node.start_mark
    return f" in line {mark.line + 1}, column {mark.column + 1}"
