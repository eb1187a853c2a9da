"""`--quick`, an argument of every benchmark: sizes at which it ends in seconds, to see it run."""

from __future__ import annotations

import argparse
from typing import Any


class _Sizes(argparse.Action):
    """Sets several arguments at once; those that follow it on the command line still count."""

    def __init__(self, *args: Any, sizes: dict[str, Any], **kwargs: Any):
        super().__init__(*args, nargs=0, **kwargs)
        self.sizes = sizes

    def __call__(self, parser, namespace, values, option_string=None):
        if unknown := self.sizes.keys() - vars(namespace).keys():
            raise ValueError(f"no such argument: {', '.join(sorted(unknown))}")
        vars(namespace).update(self.sizes)


def add_quick(parser: argparse.ArgumentParser, **sizes: Any) -> None:
    """Gives a parser `--quick`, which sets the arguments named by `sizes`.

    Raises:
      ValueError: with `--quick`, if one of them is not an argument.
    """
    listed = ", ".join(f"{name}={value}" for name, value in sizes.items())
    parser.add_argument(
        "--quick", action=_Sizes, sizes=sizes, help=f"tiny, to see that it runs: {listed}"
    )
