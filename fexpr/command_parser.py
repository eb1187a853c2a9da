"""The parser of every command line but that of launch.py."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Callable
from typing import NoReturn

from fexpr.errors import UserError
from fexpr.terminal import printable


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """A `type` of `add_argument`: whole numbers from `least` to `most`."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(
                f"expected a whole number from {least:,} to {most:,}, found {text!r}"
            )
        return number

    return read


class Parser(argparse.ArgumentParser):
    """A parser of a command line that suggests the option that was meant, without the usage."""

    # the base class declares overloads by the type of `namespace`
    def parse_known_args(self, args=None, namespace=None):  # pyright: ignore[reportIncompatibleMethodOverride]
        """As argparse, except that a UserError of a `type` is an error of the command line, and
        that '--' as the value of an option is refused: Python 3.11 makes an empty list of it.
        """
        words = list(sys.argv[1:] if args is None else args)
        for word in words:
            if re.fullmatch("--?[A-Za-z][A-Za-z-]*=--", word):
                self.error(f"argument {word.partition('=')[0]}: expected a value, found '--'")
        try:
            return super().parse_known_args(words, namespace)
        except UserError as e:
            self.error(e.title)

    def error(self, message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message:
            message = "; ".join(self._unknown(word) for word in unknown.split())
        self.exit(2, printable(f"{self.prog}: {message}\nWhat to do: {self.prog} --help\n"))

    def _unknown(self, word: str) -> str:
        if not word.startswith("-"):
            return f"{word!r} is one argument too many"
        near = difflib.get_close_matches(word.partition("=")[0], self._options(), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"there is no option {word!r}{hint}"

    def _options(self) -> list[str]:
        """Its options, and those of its subcommands."""
        found = list(self._option_string_actions)
        for action in self._actions:
            for below in action.choices.values() if isinstance(action.choices, dict) else ():
                found += below._options() if isinstance(below, Parser) else []
        return found
