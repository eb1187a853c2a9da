"""Flags and config file of `launch.py`: read, with every mistake as one message."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from fexpr import config as sections
from fexpr import terminal
from fexpr.errors import UserError
from fexpr.runs.schema import RunConfig

HELP = re.compile(r"--?(?:help(?:full|short)?|h)(?:=(.*))?")
# fields that make no other run
UNNAMED = ("data.source", "data.root", "log.", "evaluate.", "extensions")
FIX = "python launch.py --help lists commands and configs, --help=all every field"
MISTAKES = (
    flags.Error,
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
    OSError,
    ImportError,
    SyntaxError,
    NameError,
)


def parse(argv: list[str], describe: Callable[[str], str]) -> list[str]:
    """Parses flags and config file. Help is printed, and ends the process.

    Args:
      describe: the help on a topic: '' (commands and configs), a section of the config, or 'all'.

    Returns:
      What is no flag, the program's name first.

    Raises:
      UserError: any mistake; of a misspelt flag or field with the one that is probably meant.
    """
    topic = _help_topic(argv)
    if topic is not None:
        terminal.say(describe(topic))
        sys.exit(0)
    _check_config_file(argv)
    try:
        rest = flags.FLAGS(argv)
        if flags.FLAGS.config is None:
            raise ValueError("no --config is given")
        flags.FLAGS.config.lock()  # a file that did not load says so only now
    except MISTAKES as e:
        reason = _reason(argv, e)
        raise UserError(f"the command line or the config cannot be used: {reason}", fix=FIX) from e
    return rest


def default_workdir(config: object, sweeps: Sequence[str]) -> Path:
    """runs/<config file's name>, then '-synthetic' where no release is read, then every change made
    on the command line."""
    flag = flags.FLAGS["config"]
    name, _, variant = Path(config_flags.get_config_filename(flag)).name.partition(":")
    changes = [
        f"{field.rpartition('.')[2]}={value}"
        for field, value in config_flags.get_override_values(flag).items()
        if not field.startswith(UNNAMED)
    ]
    swept = [f"sweep-{text.partition('=')[0].rpartition('.')[2]}" for text in sweeps]
    source = "synthetic" if config.data.source == "synthetic" else ""
    parts = [name.removesuffix(".py"), variant, source, *changes, *swept]
    return Path("runs") / "-".join(part for part in parts if part).replace("/", "_")


def _help_topic(argv: Sequence[str]) -> str | None:
    """'' without a topic; None where no help is asked for."""
    if len(argv) == 1:
        return ""
    for argument, following in zip(argv, [*argv[1:], ""], strict=True):
        if found := HELP.fullmatch(argument):
            named = found[1] if found[1] is not None else following
            return "" if named.startswith("-") else named.removeprefix("config.")
    return None


def _reason(argv: Sequence[str], error: Exception) -> str:
    """What is wrong, out of the arguments where they say it better than the error."""
    known = sections.paths(RunConfig)
    names = [match[1] for a in argv[1:] if (match := re.match(r"--?([\w.]+)", a))]
    for name in names:
        if not name.startswith("config."):
            flag = name in flags.FLAGS or name.removeprefix("no") in flags.FLAGS
            near = "" if flag else sections.nearest(name, known)
            if near and not difflib.get_close_matches(name, list(flags.FLAGS), n=1, cutoff=0.7):
                return f"there is no flag '--{name}'. Did you mean '--config.{near}'?"
            continue
        field = name.removeprefix("config.")
        inside = field in known or any(path.startswith(f"{field}.") for path in known)
        if not inside and not field.startswith("model."):
            near = sections.nearest(field, known)
            return f"there is no field {field!r}." + (f" Did you mean {near!r}?" if near else "")
    text = str(error).replace("\\n", "\n").replace("\\'", "'")
    # a ConfigDict's own message, quoted once or twice
    unknown = re.fullmatch(r"[\"']*(\w+)['\"]*(?:\n(Did you mean .*?)'*)?", text)
    return f"there is no field {unknown[1]!r}. {unknown[2] or ''}".rstrip() if unknown else text


def _check_config_file(argv: Sequence[str]) -> None:
    """What is no config file would otherwise be reported as whatever came of running it."""
    values = [
        a.partition("=")[2] or b
        for a, b in zip(argv, [*argv[1:], ""], strict=True)
        if re.match("--?config(=|$)", a)
    ]
    for path in (Path(value.partition(":")[0]) for value in values if value):
        if not path.is_file() or path.suffix != ".py":
            known = {p.name: p for p in sorted(Path("configs").glob("*.py"))}
            near = difflib.get_close_matches(f"{path.stem}.py", known, cutoff=0.7)
            why = "a config is a Python file" if path.is_file() else "there is no such file"
            raise UserError(
                f"--config={path}: {why}",
                [f"perhaps {known[name]}" for name in near],
                "python launch.py --help lists the configs",
            )
