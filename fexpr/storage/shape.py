"""Checks the structure of JSON from a file before a command uses it.

A shape is a type or a tuple of types; a list with one shape (that of each item); or a dict, in
which keys that end with '?' may be missing, and the key '*' stands for all others. `Maybe(shape)`
may be null.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

NUMBER = (int, float)
NAMES = {str: "a text", int: "a whole number", float: "a number", dict: "an object", list: "a list"}
NAMES |= {bool: "true or false", NUMBER: "a number", type(None): "null"}


class Maybe(NamedTuple):
    """A shape, or null."""

    shape: Any


def find_mismatches(value: object, shape: Any, path: str = "") -> Iterator[str]:
    """Yields one line for each part of the value that does not have the shape: its path, what was
    expected and what was found.
    """
    if isinstance(shape, Maybe):
        if value is not None:
            yield from find_mismatches(value, shape.shape, path)
    elif isinstance(shape, dict):
        if not isinstance(value, dict):
            yield _problem(path, dict, value)
            return
        for key, inner in shape.items():
            name = key.removesuffix("?")
            if key == "*":
                for other in value.keys() - {k.removesuffix("?") for k in shape}:
                    yield from find_mismatches(value[other], inner, _inside(path, other))
            elif name in value:
                yield from find_mismatches(value[name], inner, _inside(path, name))
            elif not key.endswith("?"):
                yield f"{_inside(path, name)}: missing"
    elif isinstance(shape, list):
        if not isinstance(value, list):
            yield _problem(path, list, value)
            return
        for i, item in enumerate(value):
            yield from find_mismatches(item, shape[0], f"{path}[{i}]")
    elif not isinstance(value, shape) or (isinstance(value, bool) and shape not in (bool, object)):
        yield _problem(path, shape, value)


def _inside(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _problem(path: str, expected: Any, value: object) -> str:
    found = repr(value)
    found = f"{found[:40]}…" if len(found) > 40 else found
    return f"{path or 'the whole'}: expected {NAMES.get(expected, expected)}, found {found}"
