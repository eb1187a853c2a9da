"""The command `fexpr`: runs its subcommands, each imported only when it is used."""

from __future__ import annotations

import difflib
import importlib
import os
import shlex
import sys
from collections.abc import Sequence
from typing import NamedTuple

from fexpr import __version__, studies
from fexpr.storage import compiled


class Command(NamedTuple):
    """`entry`: 'module:function', called with the arguments after `prefix`; returns an exit
    code.
    """

    entry: str
    help: str
    prefix: tuple[str, ...] = ()


COMMANDS = {
    "train": Command("launch:cli", "train, test and report: --config=NAME or --config=FILE.py"),
    "check": Command(
        "fexpr.data.__main__:main", "check whether a data set is complete", ("check",)
    ),
    "evaluate": Command("fexpr.evaluate.__main__:main", "evaluate or compare predictions"),
    "recognize": Command(
        "fexpr.recognizer.__main__:main", "recognize expressions in pictures, videos, a camera"
    ),
    "app": Command("fexpr.app.__main__:main", "a page in the browser: photo, webcam, video"),
    "explain": Command("experiments.explain:main", "show what a network looks at"),
    "export": Command("fexpr.export:main", "write a run for JAX alone, or ONNX"),
    "status": Command("fexpr.runs.list_runs:main", "list runs, finished and in training"),
    "weights": Command("fexpr.weights:main", "list the trained models of this installation"),
}
HELP = ("-h", "-help", "--help", "help")


def usage() -> str:
    width = max(map(len, COMMANDS))
    return "\n".join(
        [
            "usage: fexpr COMMAND ...      (fexpr COMMAND --help describes it)",
            "",
            *(f"  {name:<{width}}  {command.help}" for name, command in COMMANDS.items()),
            "",
            "fexpr recognize fer2013 photo.jpg      a trained model, on a photo",
            "fexpr train --config=htnet_samm        trains; without data, on synthetic data",
        ]
    )


def run(argv: Sequence[str]) -> int:
    """Runs a command line, without the program's name; returns the exit code. 2: a mistake in the
    command line.
    """
    if len(argv) > 1 and argv[0] == "help" and argv[1] in COMMANDS:
        return _start(argv[1], ["--help"])
    if not argv or argv[0] in HELP:
        print(usage())
        return 0
    if argv[0] == "--version":
        print(f"fexpr {__version__}")
        return 0
    name, rest = argv[0], list(argv[1:])
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, [*COMMANDS, *HELP, "--version"], n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(COMMANDS)}"
        print(f"fexpr: there is no command {name!r}: {hint}", file=sys.stderr)
        return 2
    return _start(name, rest)


def _start(name: str, rest: list[str]) -> int:
    studies.add_to_path()
    _set_environment()
    from fexpr import terminal

    terminal.quiet()
    command = COMMANDS[name]
    module, _, function = command.entry.partition(":")
    if name == "train":
        os.environ.setdefault("FEXPR_COMMAND", shlex.join(["fexpr", "train", *rest]))
        # absl and SLURM's jobs read the command line from here
        sys.argv = [str(studies.LAUNCH), *rest]
        arguments = ()
    else:
        # read by `terminal.program`; argparse itself adds the subcommand
        sys.argv = ["fexpr" if command.prefix else f"fexpr {name}", *rest]
        arguments = ([*command.prefix, *rest],)
    return terminal.exit_code(
        lambda: getattr(importlib.import_module(module), function)(*arguments)
    )


def _set_environment() -> None:
    """Sets environment variables before JAX is imported: compiled programs are cached, XLA's C++
    messages hidden.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    compiled.set_environment()


def main() -> None:
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough, as in `fexpr --help | head -3`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)
