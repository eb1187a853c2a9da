"""python -m fexpr.evaluate: the report of a run for models trained elsewhere, from their logits or probabilities and the labels."""

from __future__ import annotations

import argparse
import hashlib
import platform
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import fexpr
from fexpr import run, terminal
from fexpr.errors import UserError
from fexpr.evaluate import evaluate
from fexpr.evaluate.bootstrap import RESAMPLES
from fexpr.evaluate.external import LAYOUTS, notes, read_predictions
from fexpr.evaluate.headline import print_headline
from fexpr.evaluate.report import write_page


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m fexpr.evaluate", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Measures saved predictions of a classifier: metrics with bootstrap intervals, calibration before and after\n"
        "temperature scaling, vector scaling and isotonic regression, confusion, selective prediction.\n"
        "Writes metrics.json, figures/ and report.html.",
        epilog=f"{LAYOUTS}\n\nexamples:\n  python -m fexpr.evaluate test.csv --val val.csv\n"
        "  python -m fexpr.evaluate predictions.npz --labels angry,disgust,fear,happy,sad,surprise,neutral --out report",
    )
    p.add_argument("predictions", type=Path, help="an .npz or a CSV, laid out as below")
    p.add_argument("--val", type=Path, metavar="FILE", help="validation predictions, laid out alike, to fit the calibration maps on")
    p.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: <name>_report beside the predictions)")
    p.add_argument("--labels", metavar="NAMES", help="class names in the order of the columns, separated by commas")
    p.add_argument("--selection", choices=("last", "best_val"), help="of a run of fexpr: the epoch (default: best_val if it is there)")
    p.add_argument("--resamples", type=int, default=RESAMPLES, metavar="N", help=f"of the bootstrap, at least 10 (default {RESAMPLES})")
    return p


def report(args: argparse.Namespace, command: str) -> Path:
    """Does what the command line says.

    Raises:
      UserError: a file, or where to write, cannot be used.
    """
    if args.resamples < 10:
        raise UserError(f"--resamples={args.resamples}: expected at least 10")
    path, out = args.predictions, args.out or args.predictions.with_name(f"{args.predictions.stem}_report")
    if (out / run.CONFIG).exists():
        raise UserError(f"{out} holds a run of fexpr, whose report would be overwritten", fix="choose another --out")
    names = [name.strip() for name in args.labels.split(",")] if args.labels else None
    predictions = read_predictions(path, args.val, names)
    elsewhere = "counts_from" in predictions
    selections = set(predictions["selection"].tolist())
    selection = args.selection or ("best_val" if "best_val" in selections else "last")
    source = f"{path.name}@{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}"
    try:
        alone = len(np.unique(predictions["groups"])) == len(predictions["groups"])
        metrics = evaluate(predictions, selection, source, resamples=args.resamples,
                           group_name=None if not elsewhere else "row" if alone else "group")
    except (ValueError, IndexError, KeyError) as e:  # a predictions.npz of a run that was changed by hand
        if elsewhere:
            raise
        raise UserError(f"{path} cannot be evaluated: {e}") from e
    run.write_json(out / run.METRICS, metrics)
    config = {"title": f"{path.name}: {len(metrics['per_class'])} classes", "command": command, "notes": notes(predictions),
              "versions": {"fexpr": fexpr.__version__, "python": platform.python_version(), "numpy": np.__version__}}
    page = write_page(out, config, metrics, predictions)
    print_headline(metrics)
    for note in config["notes"]:
        terminal.say(note)
    return page


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    command = shlex.join(["python", "-m", "fexpr.evaluate", *(sys.argv[1:] if argv is None else argv)])
    return terminal.exit_code(lambda: terminal.say(f"\nreport     {report(args, command)}"))


if __name__ == "__main__":
    sys.exit(main())
