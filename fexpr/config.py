"""The schema of a config: sections are dataclasses, made into a ConfigDict, checked, described.

A section is a frozen dataclass beside the code that reads it. Every field declares its default, its
meaning with its unit, and its allowed values; none of that is repeated elsewhere. Imports neither
JAX nor NumPy, so that a mistake in a config is reported at once.
"""

from __future__ import annotations

import dataclasses
import difflib
import fnmatch
import functools
import importlib
import textwrap
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

from ml_collections import ConfigDict

from fexpr.errors import UserError

WIDTH = 100  # width of the descriptions, in characters
OF_TYPE = "a value of type"
# limits of the types that compiled programs use, int32 and float32
LARGEST = {int: 2**31 - 1, float: 3.4e38}
BOUNDS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "ge": ("at least {}", lambda value, bound: value >= bound),
    "gt": ("more than {}", lambda value, bound: value > bound),
    "le": ("at most {}", lambda value, bound: value <= bound),
    "lt": ("less than {}", lambda value, bound: value < bound),
}


class Problem(NamedTuple):
    """A value that cannot be used. `field`: its path, as 'train.epochs'."""

    field: str
    value: Any
    expected: str

    def __str__(self) -> str:
        return f"{self.field}={self.value!r}: expected {self.expected}"


@dataclasses.dataclass(frozen=True)
class Entry:
    """An entry of a registry: 'package.module:attribute', imported when it is first needed.
    `reads`: fnmatch patterns of the config fields that it reads, besides those that all entries
    read; None: unknown, so no field is refused.
    """

    path: str
    reads: tuple[str, ...] | None = None

    def load(self) -> Any:
        """Imports and returns the object. Raises a UserError if it does not exist."""
        module, _, name = self.path.partition(":")
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as e:
            raise UserError(
                f"{self.path!r} names nothing that can be imported",
                [str(e)],
                "a registry holds classes, functions, or 'my_lab.faces:load'",
            ) from e

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.load()(*args, **kwargs)


def resolve(registered: Any) -> Any:
    """The object to which a value of a registry refers: a user's class or function itself, or the
    object that an Entry or a text 'package.module:attribute' names. Errors as in Entry.load.
    """
    if isinstance(registered, str):
        registered = Entry(registered)
    return registered.load() if isinstance(registered, Entry) else registered


def field(
    default: Any,
    help: str,
    *,
    one_of: Mapping | Sequence | None = None,
    debug: Any = None,
    form: tuple[str, Callable[[Any], Any]] | None = None,
    read_if: tuple[str, Callable[[Any], bool]] | None = None,
    **bounds: float,
) -> Any:
    """A field of a section.

    Args:
      help: its meaning, with its unit.
      one_of: allowed values, or a registry whose keys are allowed; a Literal needs none.
      debug: its value in the variant 'debug', if another.
      form: what a value looks like in words, and a function that raises ValueError for any other.
      read_if: a condition in words, and as a function of the section: if it is false, the field is
          not read and must be at its default.
      bounds: ge, gt, le, lt.
    """
    about = {
        "help": help,
        "one_of": one_of,
        "form": form,
        "bounds": bounds,
        "read_if": read_if,
        "debug": default if debug is None else debug,
    }
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=about)
    return dataclasses.field(default=default, metadata=about)


def build(section: type, debug: bool = False) -> ConfigDict:
    """The defaults (those of the variant 'debug', if `debug`) as a typed ConfigDict, not locked."""
    made = ConfigDict(type_safe=True)
    for name, (kind, declared) in declarations(section).items():
        if is_section(kind):
            made[name] = build(kind, debug)
        elif kind is dict:
            made[name] = ConfigDict(_initial(declared))
        else:
            made[name] = declared.metadata["debug"] if debug else declared.default
    return made


def read(section: type, values: Mapping[str, Any]) -> Any:
    """A section out of a ConfigDict or a stored config.json. Fields that its fexpr did not have yet
    get their defaults, fields that this one has no longer are skipped; nothing is checked."""
    found = {}
    for name, (kind, _) in declarations(section).items():
        if name in values:
            value = values[name]
            if is_section(kind):
                value = read(kind, value)
            elif kind is dict:
                value = value.to_dict() if isinstance(value, ConfigDict) else dict(value)
            elif kind is float and type(value) is int:
                value = float(value)
            found[name] = tuple(value) if isinstance(value, list) else value
        elif is_section(kind):
            found[name] = kind()
    return section(**found)


def upgrade(section: type, stored: Mapping[str, Any]) -> ConfigDict:
    """The config of an older run, completed to all fields of this version by the rules of
    `read`.
    """
    whole = dataclasses.asdict(read(section, stored))
    return ConfigDict(whole)


def check(section: type, config: ConfigDict) -> Any:
    """The config as its dataclasses.

    Raises:
      UserError: with every problem at once: values of another type or out of range, sections and
        combinations of them that cannot be used (their methods `problems`).
    """
    found = read(section, config)
    problems = list(dict.fromkeys(find_problems(found)))
    if problems:
        raise UserError(
            "the config cannot be used",
            list(map(str, problems)),
            "set them with --config.<field>=<value>; python launch.py --help=<section> "
            "describes every field of a section",
        )
    return found


def find_problems(section: Any, prefix: str = "") -> Iterator[Problem]:
    """Problems of each field by itself, then of the section, then of the section that contains
    it.
    """
    faulty = False
    for name, (kind, declared) in declarations(type(section)).items():
        value, path = getattr(section, name), f"{prefix}{name}"
        if is_section(kind):
            inner = list(find_problems(value, f"{path}."))
        else:
            expected = _mismatch(kind, declared.metadata, value)
            inner = [Problem(path, value, expected)] if expected else []
            needs = declared.metadata["read_if"]
            if not inner and needs and value not in _untouched(declared) and not needs[1](section):
                inner = [Problem(path, value, f"{declared.default!r}: it is read {needs[0]}")]
        faulty |= any(p.expected.startswith(OF_TYPE) for p in inner)
        yield from inner
    if not faulty and hasattr(section, "problems"):
        yield from (p._replace(field=f"{prefix}{p.field}") for p in section.problems())


def find_unread(
    section: Any,
    patterns: Sequence[str],
    reader: str,
    prefix: str = "",
    also: Mapping[str, tuple] = {},
) -> Iterator[Problem]:
    """Fields that differ from their defaults and match none of the patterns, so that `reader`
    ignores them. `also`: path -> further values that are accepted.
    """
    for name, (kind, declared) in declarations(type(section)).items():
        value, path = getattr(section, name), f"{prefix}{name}"
        if any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns) or kind is dict:
            continue
        if is_section(kind):
            yield from find_unread(value, patterns, reader, f"{path}.", also)
        elif value not in (*_untouched(declared), *also.get(path, ())):
            yield Problem(path, value, f"{declared.default!r}, as {reader} does not read it")


def allowed(section: type, name: str) -> tuple:
    """The values that a field may have; () if they cannot be listed."""
    kind, declared = declarations(section)[name]
    return _values(kind, declared.metadata)


def paths(section: type, prefix: str = "") -> list[str]:
    """Every field, as 'train.epochs'; of a section of free content its fields by default."""
    found = []
    for name, (kind, declared) in declarations(section).items():
        if is_section(kind):
            found += paths(kind, f"{prefix}{name}.")
        elif kind is dict:
            found += [f"{prefix}{name}.{key}" for key in _initial(declared)]
        else:
            found.append(f"{prefix}{name}")
    return found


def nearest(name: str, known: Sequence[str]) -> str:
    """The path in `known` that is closest to a misspelt or abbreviated one; '' if none is close.
    Paths of the same section are preferred; initials count, as 'lr' for 'learning_rate'.
    """
    section, _, last = name.rpartition(".")

    def score(path: str) -> float:
        whole, _, leaf = path.rpartition(".")
        likeness = difflib.SequenceMatcher(None, last, leaf).ratio()
        if last == "".join(word[0] for word in leaf.split("_")) and "_" in leaf:
            likeness = 0.95
        return likeness + 0.04 * (whole == section)

    best = max(known, key=score, default="")
    return best if best and score(best) >= 0.7 else ""


def describe(section: type, prefix: str = "") -> list[str]:
    """Lines for each field: path and default, meaning, what it may hold, when it is read."""
    lines = []
    for name, (kind, declared) in declarations(section).items():
        about = declared.metadata
        if is_section(kind):
            summary = (kind.__doc__ or "").partition("\n\n")[0]
            lines += [
                "",
                *textwrap.wrap(
                    f"{prefix}{name}: {' '.join(summary.split())}",
                    WIDTH,
                ),
                *describe(kind, f"{prefix}{name}."),
            ]
            continue
        items = _initial(declared).items() if kind is dict else [("", declared.default)]
        for key, value in items:
            path = f"{prefix}{name}.{key}".rstrip(".")
            text = "; ".join(
                filter(
                    None,
                    (
                        about["help"],
                        _expected(kind, about),
                        about["read_if"] and f"read {about['read_if'][0]}",
                    ),
                )
            )
            head = f"  --config.{path}={value}".ljust(44)
            lines += textwrap.wrap(
                f"{head}  {text}",
                WIDTH,
                subsequent_indent=" " * 46,
                break_long_words=False,
                drop_whitespace=True,
            )
    return lines


def is_section(kind: object) -> TypeGuard[type]:
    """Whether a field of this type is a section of its own."""
    return dataclasses.is_dataclass(kind)


def _initial(declared: dataclasses.Field) -> dict[str, Any]:
    """The content that a section of free content has by default."""
    if declared.default_factory is dataclasses.MISSING:
        raise TypeError(f"{declared.name} has no content by default")
    return declared.default_factory()


@functools.cache
def declarations(section: type) -> dict[str, tuple[Any, dataclasses.Field]]:
    """Type and declaration of each field."""
    hints = typing.get_type_hints(section)
    return {f.name: (hints[f.name], f) for f in dataclasses.fields(section)}


def _untouched(declared: dataclasses.Field) -> tuple:
    return declared.default, declared.metadata["debug"]


def _plain_type(kind: Any) -> type | tuple[type, ...]:
    plain = str if typing.get_origin(kind) is typing.Literal else typing.get_origin(kind) or kind
    return (int, float) if plain is float else plain


def _values(kind: Any, about: Mapping) -> tuple:
    literals = typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else ()
    return tuple(about["one_of"] or literals)


def _mismatch(kind: Any, about: Mapping, value: Any) -> str:
    """What was expected instead of the value; '' if it can be used."""
    plain = _plain_type(kind)
    if not isinstance(value, plain) or (isinstance(value, bool) and kind is not bool):
        return f"{OF_TYPE} {getattr(plain, '__name__', 'float')}"
    entries = typing.get_args(kind)[:1] or (object,)  # of a tuple: one type for all
    if isinstance(value, tuple) and not all(isinstance(entry, entries) for entry in value):
        return f"{OF_TYPE} {kind}"
    if isinstance(value, (int, float)):
        largest = LARGEST[float if isinstance(value, float) else int]
        if not -largest <= value <= largest:  # NaN is outside every range
            return f"a finite number, at most {largest}"
    values = _values(kind, about)
    right = plain is tuple or not values or value in values
    right &= all(BOUNDS[name][1](value, bound) for name, bound in about["bounds"].items())
    if right and about["form"]:
        try:
            about["form"][1](value)
        except ValueError:
            right = False
    return "" if right else _expected(kind, about)


def _expected(kind: Any, about: Mapping) -> str:
    if values := _values(kind, about):
        return "one of " + ", ".join(map(repr, values))
    bounds = [BOUNDS[name][0].format(f"{bound:g}") for name, bound in about["bounds"].items()]
    return " and ".join(bounds) or (about["form"][0] if about["form"] else "")
