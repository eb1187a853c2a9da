"""Finished runs of the same folds as one predictor: late fusion, the mean of a run's seeds, or the
best run of a sweep fold by fold.

  # late fusion: the runs' mean posteriors
  python -m experiments.fuse runs/aus_mlp_ravdess runs/stn_ravdess --out=runs/fused
  # its seeds' mean posteriors
  python -m experiments.fuse runs/aus_mlp_ravdess --out=runs/aus_mlp_ensemble
  # each fold by the run that is best on its validation rows
  python -m experiments.fuse runs/sweep/* --choose=nll --out=runs/nested

A run on frames takes part with its clips, as its own rule (config.evaluate.clips) decides them.
"""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fexpr import terminal
from fexpr.command_parser import Parser, whole_number
from fexpr.errors import UserError
from fexpr.evaluate import clip_rules, evaluate, fusion
from fexpr.evaluate.bootstrap import RESAMPLES
from fexpr.evaluate.evaluate_config import FEWEST, MOST
from fexpr.evaluate.report.run_report import write_page
from fexpr.evaluate.report.terminal_report import print_headline
from fexpr.storage import contents as stored
from fexpr.storage import mirror, run
from fexpr.storage.addresses import path_or_url
from fexpr.terminal import say


def parser() -> argparse.ArgumentParser:
    p = Parser(
        prog="python -m experiments.fuse",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "runs",
        nargs="+",
        type=path_or_url,
        metavar="RUN",
        help="run directories of finished runs, or their addresses",
    )
    p.add_argument(
        "--out",
        required=True,
        type=path_or_url,
        metavar="DIR",
        help="where predictions.npz, metrics.json and the report go",
    )
    p.add_argument(
        "--rule",
        choices=fusion.RULES,
        default="mean",
        help="of posteriors, arithmetic or geometric (default: mean)",
    )
    p.add_argument(
        "--choose",
        choices=fusion.CHOICES,
        default="",
        help="take, in each fold, the one run that is best by this on the fold's validation rows; "
        "'weights': all runs, with the shares that make those rows likeliest",
    )
    p.add_argument(
        "--selection",
        choices=("best_val", "last"),
        help="epoch of each trial (default: each run's own selection)",
    )
    p.add_argument(
        "--resamples",
        type=whole_number(FEWEST, MOST),
        default=RESAMPLES,
        metavar="N",
        help=f"of the bootstrap over subjects (default: {RESAMPLES})",
    )
    return p


def fuse(args: argparse.Namespace, command: str) -> None:
    """Writes `--out`.

    Raises:
      UserError: runs that are not finished or do not fit each other; an output folder that holds
          something else.
    """
    with contextlib.ExitStack() as stack:
        runs = {
            str(r): stack.enter_context(mirror.opened(r, (run.CONFIG, run.PREDICTIONS)))
            for r in args.runs
        }
        out = stack.enter_context(mirror.opened(args.out))
        fuse_runs(runs, out, command, args.rule, args.choose, args.selection, args.resamples)


def fuse_runs(
    runs: dict[str, Path],
    out: Path,
    command: str,
    rule: str = "mean",
    choose: str = "",
    selection: str | None = None,
    resamples: int = 1000,
) -> None:
    """Writes the fusion of these run directories, by name, into `out`; arguments as in the command.
    Errors as in `fuse`.
    """
    unfinished = [
        f"{r}: no {name}"
        for r, f in runs.items()
        for name in (run.CONFIG, run.PREDICTIONS)
        if not (f / name).is_file()
    ]
    if unfinished:
        raise UserError(
            "these are no finished runs",
            unfinished,
            "name run directories; an unfinished run is finished by its own launch command",
        )
    if out.is_dir() and any(out.iterdir()) and not (out / run.METRICS).is_file():
        raise UserError(
            f"{out} is not empty and contains no run of fexpr", fix="choose another folder"
        )
    contents = {
        r: stored.read_config(folder / run.CONFIG, stored.PREDICTED) for r, folder in runs.items()
    }
    found = {name: _of_clips(runs[name], content) for name, content in contents.items()}
    selections = {
        name: selection or content["config"].get("train", {}).get("selection") or "best_val"
        for name, content in contents.items()
    }
    try:
        predictions, chosen = fusion.fuse(found, selections, rule, choose)
    except ValueError as e:  # a predictions.npz that was changed by hand
        raise UserError(f"these runs cannot be fused: {e}") from e
    data = next(iter(contents.values()))["data"]
    sources = list(dict.fromkeys(c["data"]["source"] for c in contents.values()))
    source = "synthetic" if "synthetic" in sources else "+".join(sources)
    notes = [
        f"fused, {rule} posteriors over the seeds{'' if chosen else ' and the runs'} "
        f"{', '.join(contents)}"
    ]
    notes += [
        f"fold {fold}: {name}, by {choose} on the fold's validation rows"
        for fold, name in chosen.items()
    ]
    info = {
        "format": run.FORMAT_VERSION,
        "config": {},
        "data": {
            k: data[k] for k in ("name", "rows", "groups", "group_name", "classes") if k in data
        }
        | {"source": source},
        "model": {"name": " + ".join(dict.fromkeys(c["model"]["name"] for c in contents.values()))},
        "command": command,
        "notes": notes,
        "versions": {},
    }
    metrics = evaluate(
        predictions,
        fusion.fused_selection(selections),
        source,
        resamples=resamples,
        group_name=data.get("group_name"),
    )
    run.write_json(out / run.CONFIG, info)
    run.write_arrays(out / run.PREDICTIONS, predictions)
    run.write_json(out / run.METRICS, metrics)
    page = write_page(out, info, metrics, predictions)
    for name, count in Counter(chosen.values()).most_common(5):
        say(f"chosen     {name} in {count} of {len(chosen)} folds")
    print_headline(metrics)
    say(f"\nreport     {mirror.display_path(page)}")


def _of_clips(folder: Path, content: dict) -> dict[str, np.ndarray]:
    """The arrays of predictions.npz; of frames, what the run's own rule makes of their clips."""
    found = stored.read_predictions(folder / run.PREDICTIONS)
    if "video" not in found:
        return found
    with stored.as_user_error("the rule of its clips is unknown"):
        return clip_rules.decide(found, content["config"]["evaluate"]["clips"])


def main(argv: Sequence[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    args = parser().parse_args(argv)
    return terminal.exit_code(
        lambda: fuse(args, shlex.join(["python", "-m", "experiments.fuse", *map(str, argv)]))
    )


if __name__ == "__main__":
    sys.exit(main())
