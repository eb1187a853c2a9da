"""python -m fexpr.data check: checks that a release is where fexpr looks for it, complete and
readable.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from fexpr import extensions, terminal
from fexpr.command_parser import Parser
from fexpr.config import Entry, build, find_problems, read
from fexpr.data import data_sets
from fexpr.data.data_config import ALL_READ, DataConfig
from fexpr.data.dataset import Dataset
from fexpr.data.loaders import LOADERS, Loader
from fexpr.data.preparation import prepare
from fexpr.errors import UserError
from fexpr.storage import bounded
from fexpr.terminal import say

BUILT_IN = tuple(LOADERS)
TRUTH = {"true": True, "false": False, "1": True, "0": False}
LOOK = "docs/data.md shows the layouts"


def parser() -> argparse.ArgumentParser:
    p = Parser(
        prog=terminal.program("fexpr.data"),
        description="Looks at releases on this machine.",
        epilog=LOOK,
    )
    commands = p.add_subparsers(required=True, metavar="check")
    check = commands.add_parser(
        "check",
        help="read releases as a run would, and say what is missing",
        epilog=LOOK,
        description="Reads releases as a run would, from the first file to the last image, and "
        "lists everything that is missing\n"
        "or cannot be read. What it prepares stays in the cache: the first run after it "
        "starts at once.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"of {', '.join(LOADERS)} (default: every one whose folder exists)",
    )
    check.add_argument(
        "--root",
        default="",
        metavar="DIR",
        help="folder that contains the releases (default: $FEXPR_DATA_DIR, else ~/fexpr_data)",
    )
    check.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="a field of config.data, for example layout=flow or skip_clips=032_3_1 (python "
        "launch.py "
        "--help=data lists them)",
    )
    check.add_argument(
        "--extension",
        action="append",
        default=[],
        metavar="MODULE",
        help="a module or file of yours that registers data sets (config.extensions): "
        "my_lab.faces, lab/my_faces.py",
    )
    return p


def check(args: argparse.Namespace) -> None:
    """Runs the command line.

    Raises:
      UserError: an unknown name or field, or a release that cannot be used; every release is looked
          at first.
    """
    extensions.load(args.extension)
    config = _config(args)
    unknown = [
        f"{name!r}: expected one of {', '.join(LOADERS)}{_hint(name)}"
        for name in args.names
        if name not in LOADERS
    ]
    if unknown:
        raise UserError(
            "there are no such data sets",
            unknown,
            "a data set of your own must be registered by a module: --extension=my_lab.faces",
        )
    root, giver = prepare.data_root(config)
    say(
        f"root       {root}"
        + (f" (given by {giver})" if giver else "")
        + f", which {prepare.contents(root)}"
    )
    names = args.names or [
        name for name in LOADERS if name not in BUILT_IN or _has_folder(root, name)
    ]
    if not names:
        raise UserError(f"{root} contains no release", [f"looked for {', '.join(LOADERS)}"], LOOK)
    faulty = []
    for name in names:
        config.name = name
        say(f"\n{name}")
        try:
            describe(data_sets.load(config))
        except UserError as e:
            if len(names) == 1:
                raise
            terminal.error(e.text())
            faulty.append(name)
    if faulty:
        raise UserError(
            f"{len(faulty)} of {len(names)} cannot be used: {', '.join(faulty)}", fix=LOOK
        )


def describe(dataset: Dataset) -> None:
    """Prints what a run would use: rows, classes, subjects."""
    groups = (
        f" of {len(np.unique(dataset.groups)):,} {dataset.group_name}s"
        if dataset.group_name != "image"
        else ""
    )
    size = "x".join(map(str, dataset.images.shape[1:]))
    say(f"  rows     {len(dataset):,}{groups}, {size}, {dataset.source}")
    counts = (
        (dataset.labels > 0).sum(0)
        if dataset.multilabel
        else np.bincount(dataset.labels, minlength=len(dataset.class_names))
    )
    say(
        "  classes  "
        + "  ".join(f"{name} {n:,}" for name, n in zip(dataset.class_names, counts, strict=True))
    )
    for name in ("dataset", "split"):
        part = dataset.extras.get(name) if name == "dataset" else dataset.split
        if part is not None:
            say(
                f"  {name:8} "
                + "  ".join(
                    f"{value} {n:,}"
                    for value, n in zip(*np.unique(part, return_counts=True), strict=True)
                )
            )
    say("  fine", style="green")


def _config(args: argparse.Namespace) -> ConfigDict:
    """The config of --root and --set, checked as that of a run.

    Raises:
      UserError: fields that do not exist, that none of the named data sets reads, or that have
        values that cannot be used.
    """
    config, problems = build(DataConfig), []
    config.root, config.source = args.root, "release"
    loaders = [LOADERS[name] for name in args.names or LOADERS if name in LOADERS]
    for text in args.set:
        field, _, value = text.partition("=")
        if field not in config:
            problems.append(f"--set {text}: config.data has no field {field!r}")
            continue
        if loaders and not any(_reads(loader, field) for loader in loaders):
            who = f"{', '.join(args.names)} does" if args.names else "the data sets do"
            problems.append(f"--set {text}: {who} not read this field")
        kind = type(config[field])
        try:
            config[field] = TRUTH[value.lower()] if kind is bool else kind(value)
        except KeyError:
            problems.append(f"--set {text}: expected {' or '.join(TRUTH)}")
        except ValueError:
            problems.append(f"--set {text}: expected a whole number")
    problems = problems or [f"--set {p}" for p in find_problems(read(DataConfig, config))]
    if problems:
        fields = ", ".join(config)
        raise UserError(
            "--set cannot be used",
            problems,
            f"the fields of config.data are {fields}; python launch.py --help=data describes them",
        )
    return config


def _hint(name: str) -> str:
    near = difflib.get_close_matches(name, LOADERS, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _reads(loader: object, field: str) -> bool:
    """Whether a loader reads a field of config.data; a user's own may read any."""
    if not isinstance(loader, Entry) or loader.reads is None:
        return True
    fixed = ("image_size",) if isinstance(loader, Loader) and loader.side else ()
    return any(fnmatchcase(field, one) for one in (*ALL_READ, *loader.reads, *fixed))


def _has_folder(root: Path, name: str) -> bool:
    folders = [root / part for part in prepare.COMPOSITES.get(name, (name,))]
    return any(
        bounded.is_folder(f)
        and (name not in prepare.SIGNS or any(any(f.glob(sign)) for sign in prepare.SIGNS[name]))
        for f in folders
    )


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return terminal.exit_code(lambda: check(args))


if __name__ == "__main__":
    sys.exit(main())
