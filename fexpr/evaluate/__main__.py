"""python -m fexpr.evaluate: the report of a run for models trained elsewhere, from their logits or
probabilities and the labels; and runs, or such files, side by side.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import fexpr
from fexpr import terminal
from fexpr.command_parser import Parser, whole_number
from fexpr.errors import UserError
from fexpr.evaluate import clip_rules, evaluate
from fexpr.evaluate.bootstrap import RESAMPLES
from fexpr.evaluate.evaluate_config import FEWEST, MOST
from fexpr.evaluate.external import LAYOUTS, notes, read_predictions
from fexpr.evaluate.paired import Candidate, compare
from fexpr.evaluate.report.paired_report import print_paired, unique_names, write_paired
from fexpr.evaluate.report.run_report import write_page
from fexpr.evaluate.report.terminal_report import print_headline
from fexpr.storage import contents, mirror, run
from fexpr.storage.addresses import is_address, path_or_url

READ = (run.CONFIG, run.PREDICTIONS, run.METRICS)  # of a run at an address


def parser() -> argparse.ArgumentParser:
    p = Parser(
        prog=terminal.program("fexpr.evaluate"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Measures saved predictions of a classifier: metrics with bootstrap intervals; "
        "how far its probabilities are off,\n"
        "with smooth, debiased and binned errors beside those that chance alone gives, before and "
        "after the "
        "calibration map that validation\n"
        "rows choose; prediction sets, confusion, selective prediction.\n"
        "Writes metrics.json, figures/ and report.html.\n"
        "Of two or more run directories or files it compares the predictions on the test rows "
        "that all of them have: paired\n"
        "bootstrap differences to the first, McNemar's test, F1 by class. Writes "
        "comparison.json, figures/ and comparison.html.\n"
        "Results on synthetic data are labelled SYNTHETIC; of a file outside a run directory this "
        "cannot be known.",
        epilog=f"{LAYOUTS}\n\nexamples:\n  python -m fexpr.evaluate test.csv --val val.csv\n"
        "  python -m fexpr.evaluate predictions.npz --labels "
        "angry,disgust,fear,happy,sad,surprise,neutral --out report\n"
        "  python -m fexpr.evaluate runs/ststnet_megc2019 runs/htnet_megc2019",
    )
    p.add_argument(
        "predictions",
        type=path_or_url,
        nargs="+",
        help="an .npz, a CSV or a run directory, or the address of one; several: compared",
    )
    p.add_argument(
        "--val",
        type=path_or_url,
        metavar="FILE",
        help="validation predictions, laid out alike, to fit the calibration maps on",
    )
    p.add_argument(
        "--out",
        type=path_or_url,
        metavar="DIR",
        help="where to write (default: <name>_report, or comparison, beside the first; "
        "here, if that is an address)",
    )
    p.add_argument(
        "--labels",
        metavar="NAMES",
        help="class names in the order of the columns, separated by commas",
    )
    p.add_argument(
        "--selection",
        choices=("last", "best_val"),
        help="of a run: the epoch (default: its own; of an .npz best_val)",
    )
    p.add_argument(
        "--rows",
        choices=("test", "val"),
        default="test",
        help="which to compare: val, to choose between settings before a test row is looked at",
    )
    p.add_argument(
        "--resamples",
        type=whole_number(FEWEST, MOST),
        default=RESAMPLES,
        metavar="N",
        help=f"of the bootstrap, at least {FEWEST} (default {RESAMPLES})",
    )
    return p


def answer(args: argparse.Namespace, command: str) -> str:
    """Runs the command line, for files here or at an address; returns the path of the page.

    Raises:
      UserError: a file, or where to write, cannot be used.
    """
    with contextlib.ExitStack() as stack:
        local = argparse.Namespace(**vars(args))
        local.names = unique_names([Path(given) for given in args.predictions])
        local.predictions = [
            stack.enter_context(mirror.opened(given, READ)) for given in args.predictions
        ]
        local.val = args.val and stack.enter_context(mirror.opened(args.val, READ))
        one = local.predictions[0] if len(local.predictions) == 1 else None
        name = f"{one.stem}_report" if one else "comparison"
        out = args.out or (
            Path(name)
            if is_address(args.predictions[0])
            else Path(os.path.abspath(local.predictions[0])).with_name(name)
        )
        out = _checked(args, stack.enter_context(mirror.opened(out)))
        return mirror.display_path((report if one else comparison)(local, out, command))


def report(args: argparse.Namespace, out: Path, command: str) -> Path:
    """Reports one file or run. Errors as in `answer`."""
    if args.rows != "test":
        raise UserError(
            f"--rows={args.rows} can only be used to compare several files",
            fix="leave it out, or name a second file or run",
        )
    path = args.predictions[0]
    names = [name.strip() for name in args.labels.split(",")] if args.labels else None
    predictions = _clips(path, _predictions(path, args.val, names))
    elsewhere = "counts_from" in predictions
    try:
        single_rows = len(np.unique(predictions["groups"])) == len(predictions["groups"])
        metrics = evaluate(
            predictions,
            _selection(args, path, predictions),
            _source(path),
            resamples=args.resamples,
            group_name=None if not elsewhere else "row" if single_rows else "group",
        )
    except (ValueError, IndexError, KeyError) as e:
        # a run's predictions.npz that was changed by hand
        if elsewhere:
            raise
        raise UserError(f"{path} cannot be evaluated: {e}") from e
    run.write_json(out / run.METRICS, metrics)
    config = {
        "title": f"{path.name}: {len(metrics['per_class'])} classes",
        "command": command,
        "notes": notes(predictions),
        "versions": {
            "fexpr": fexpr.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
        },
    }
    page = write_page(out, config, metrics, predictions)
    print_headline(metrics)
    for note in config["notes"]:
        terminal.say(note)
    return page


def comparison(args: argparse.Namespace, out: Path, command: str) -> Path:
    """Compares two or more files or runs."""
    if args.val or args.labels:
        raise UserError(
            "--val and --labels can only be used with one file",
            fix="leave them out: a comparison fits no calibration map, and reads class names from "
            "the files",
        )
    candidates = []
    for path, name in zip(args.predictions, args.names, strict=True):
        predictions = _clips(path, _predictions(path))
        candidates.append(
            Candidate(name, predictions, _selection(args, path, predictions), _source(path))
        )
    try:
        found = compare(candidates, resamples=args.resamples, split=args.rows)
    except (ValueError, IndexError, KeyError) as e:
        raise UserError(f"these predictions cannot be compared: {e}") from e
    page = write_paired(out, found, command)
    print_paired(found)
    return page


def _checked(args: argparse.Namespace, out: Path) -> Path:
    if (out / run.CONFIG).exists():
        raise UserError(
            f"{out} contains a run of fexpr, whose report would be overwritten",
            fix="choose another --out",
        )
    return out


def _file(path: Path) -> Path:
    """The predictions.npz of a run directory, or the file itself."""
    if not path.is_dir():
        return path
    if not (path / run.PREDICTIONS).is_file():
        raise UserError(
            f"{path} contains no finished run",
            [f"{run.PREDICTIONS}: missing"],
            fix="name a run directory; an unfinished run is finished by its own launch command",
        )
    return path / run.PREDICTIONS


def _predictions(
    path: Path, val: Path | None = None, names: list[str] | None = None
) -> dict[str, np.ndarray]:
    if path.is_dir():  # a run's own file must be one that a run writes, not any readable file
        contents.read_predictions(_file(path))
    return read_predictions(_file(path), val, names)


def _clips(path: Path, predictions: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Predictions of clips, by the run's own rule, if its rows are frames; other predictions
    unchanged.
    """
    if "video" not in predictions:
        return predictions
    rule = (
        contents.read_metrics(path / run.METRICS)["clips"]["rule"]
        if (path / run.METRICS).is_file()
        else "sum"
    )
    return clip_rules.decide(predictions, rule)


def _selection(args: argparse.Namespace, path: Path, predictions: dict[str, np.ndarray]) -> str:
    """The requested selection, or that of the run's result; for a file without a run, best_val if
    it exists.
    """
    if not args.selection and (path / run.METRICS).is_file():
        return contents.read_metrics(path / run.METRICS)["selection"]
    return args.selection or ("best_val" if "best_val" in predictions["selection"] else "last")


def _source(path: Path) -> str:
    """The release of a run, or the file and its fingerprint; 'synthetic' also for a file in the
    directory of such a run, as a file cannot tell.
    """
    if (path / run.METRICS).is_file():
        return contents.read_metrics(path / run.METRICS)["source"]
    with contextlib.suppress(UserError):  # no run lies there
        if contents.read_config(path.parent / run.CONFIG)["data"]["source"] == "synthetic":
            return "synthetic"
    return f"{path.name}@{hashlib.sha256(_file(path).read_bytes()).hexdigest()[:8]}"


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    arguments = shlex.join(sys.argv[1:] if argv is None else argv)
    command = f"{terminal.program('fexpr.evaluate')} {arguments}"
    return terminal.exit_code(lambda: terminal.say(f"\nreport     {answer(args, command)}"))


if __name__ == "__main__":
    sys.exit(main())
