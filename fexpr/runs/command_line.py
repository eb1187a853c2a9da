"""Reads the flags and the config file of `launch.py`; every mistake is one message."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from fexpr import config as sections
from fexpr import terminal
from fexpr.errors import UserError
from fexpr.runs.schema import RunConfig

HELP = re.compile(r"--?(?:help(?:full|short)?|h)(?:=(.*))?")
# fields that do not make it a different run
UNNAMED = ("data.source", "data.root", "log.", "evaluate.", "extensions")
FIX = (
    "python launch.py --help (or fexpr train --help) lists commands and configs, --help=all "
    "every field"
)
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


def parse(argv: list[str], configs: Path, describe: Callable[[str], str]) -> list[str]:
    """Parses flags and config file. Help is printed, and ends the process.

    Args:
      configs: the folder of the configs that may be given by name: --config=htnet_samm.
      describe: the help on a topic: '' (commands and configs), a section of the config, or 'all'.

    Returns:
      The arguments that are not flags, the program's name first.

    Raises:
      UserError: any mistake; for a misspelt flag or field, with the probable spelling.
    """
    topic = _help_topic(argv)
    if topic is not None:
        terminal.say(describe(topic))
        sys.exit(0)
    argv = _with_config_file(argv, configs)
    try:
        rest = flags.FLAGS(argv)
        if flags.FLAGS.config is None:
            raise ValueError("no --config is given")
        flags.FLAGS.config.lock()  # an error in loading the file only appears now
    except MISTAKES as e:
        reason = _reason(argv, e)
        raise UserError(f"the command line or the config cannot be used: {reason}", fix=FIX) from e
    return rest


def refuse_words(words: Sequence[str]) -> None:
    """Raises a UserError for words that are neither a flag nor the value of one."""
    if words:
        near = [
            f"{word}: did you mean --config.{near}{word[len(name) :]}?"
            for word in words
            if (name := word.partition("=")[0])
            and "=" in word
            and (near := sections.nearest(name, sections.paths(RunConfig)))
        ]
        raise UserError(
            f"the command line has words that are not flags: {' '.join(words)}",
            near,
            fix=f"a flag begins with --, values contain no spaces or are quoted; {FIX}",
        )


def default_workdir(config: ConfigDict, sweeps: Sequence[str]) -> Path:
    """The default run directory: runs/<config file's name>, then '-synthetic' if no release is
    read, then every change on the command line.
    """
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
    """The topic of --help=TOPIC: '' for --help alone, None if help is not requested."""
    if len(argv) == 1:
        return ""
    for argument, following in zip(argv, [*argv[1:], ""], strict=True):
        if found := HELP.fullmatch(argument):
            named = found[1] if found[1] is not None else following
            return "" if named.startswith("-") else named.removeprefix("config.")
    return None


def _reason(argv: Sequence[str], error: Exception) -> str:
    """The mistake, from the arguments if they show it better than the error."""
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
    if unknown:
        return f"there is no field {unknown[1]!r}. {unknown[2] or ''}".rstrip()
    return re.sub(r"invalid literal for int\(\) with base 10", "expected a whole number", text)


def _with_config_file(argv: Sequence[str], configs: Path) -> list[str]:
    """The arguments, with the name of a config replaced by its file.

    Raises:
      UserError: neither a file nor the name of a config; without this check, the error of running
          it would be reported.
    """
    found = list(argv)
    for i, argument in enumerate(argv):
        flag, equals, value = argument.partition("=")
        if flag not in ("--config", "-config"):
            continue
        place = i if equals else i + 1
        if not equals:
            value = found[place] if place < len(found) else ""
        if value:
            named, colon, variant = value.partition(":")
            file = f"{_config_file(named, configs)}{colon}{variant}"
            found[place] = f"{flag}={file}" if equals else file
    return found


def _config_file(named: str, configs: Path) -> Path:
    path, known = Path(named), {file.stem: file for file in sorted(configs.glob("*.py"))}
    if path.is_file() and path.suffix == ".py":
        return path
    if named in known:
        return known[named]
    beside = {file.name: str(file) for file in sorted(path.parent.glob("*.py"))}
    near = [beside[name] for name in difflib.get_close_matches(f"{path.stem}.py", beside)]
    near = near or difflib.get_close_matches(path.stem, known, cutoff=0.7)
    why = (
        "a config is a Python file"
        if path.is_file()
        else "there is no such file"
        if path.suffix or path.name != named
        else "there is no config of that name"
    )
    raise UserError(
        f"--config={named}: {why}",
        [f"perhaps {name}" for name in near],
        FIX,
    )
