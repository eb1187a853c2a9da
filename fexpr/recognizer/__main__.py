"""Recognises expressions in pictures, pairs of frames, videos and from a camera, with a finished
run: see --help.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

# C++ chatter of XLA; must be set before it is loaded
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from fexpr import terminal
from fexpr.command_parser import Parser
from fexpr.recognizer.command_options import check
from fexpr.storage import compiled, zoo
from fexpr.storage.addresses import local_path

if TYPE_CHECKING:
    from fexpr.recognizer import Recognizer

FRAMES = 8  # rows of a video at a time


def parser() -> argparse.ArgumentParser:
    p = Parser(
        prog=terminal.program("fexpr.recognizer"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Recognises expressions in pictures, pairs of frames, videos and from a "
        "camera, with a trained model or a finished run.\n"
        "One row for each face of a picture, pair or frame: decision, status, box and landmarks, "
        "the set of classes that contains the true one nine times in ten\n(--coverage), "
        "entropy (0: certain, 1: uniform), a probability of each class, calibrated where a map "
        "helped on validation rows. All trials\n"
        "of a cross-validation predict together, with their spread.",
        epilog="examples:\n  python -m fexpr.recognizer runs/cnn_simple_fer2013 anna.png photos/ "
        "--out=faces.csv --annotate=drawn\n"
        "  python -m fexpr.recognizer runs/cnn_simple_fer2013.zip --video talk.mp4 --every=5 "
        "--out=talk.jsonl --annotate=talk_drawn.mp4\n"
        "  python -m fexpr.recognizer runs/htnet_samm --pair onset.png apex.png --align=none\n"
        "  python -m fexpr.recognizer runs/htnet_samm --video clip.avi --interval=0.15\n"
        "  python -m fexpr.recognizer runs/htnet_samm --video long.mp4 --spot\n"
        "  python -m fexpr.recognizer runs/cnn_simple_fer2013 --camera          # until Ctrl-C",
    )
    p.add_argument(
        "run_dir",
        metavar="RUN",
        help="a model that `fexpr weights` lists (fer2013), a run directory, a .zip or .tar.gz of "
        "one, or an address that fsspec opens",
    )
    p.add_argument(
        "images",
        nargs="*",
        metavar="IMAGE",
        help="pictures, or folders, searched below; for a run trained on flow: flow maps; or one "
        "video",
    )
    what = p.add_argument_group("instead of pictures")
    what.add_argument(
        "--pair",
        nargs=2,
        action="append",
        default=[],
        metavar=("ONSET", "APEX"),
        help="two frames of a movement, for a run trained on flow; may be given several times",
    )
    what.add_argument(
        "--video",
        metavar="FILE",
        help="every frame; for a run trained on flow, frames --interval apart",
    )
    what.add_argument(
        "--camera", nargs="?", type=int, const=0, metavar="N", help="the same from camera N (0)"
    )
    how = p.add_argument_group("how")
    how.add_argument(
        "--align",
        choices=("detect", "landmarks", "none"),
        help="detect (default): every face is found, turned upright and "
        "cut out; none: frames show the face alone, cropped as in training; "
        "landmarks: of a pair, see --landmarks",
    )
    how.add_argument(
        "--landmarks",
        nargs=10,
        type=float,
        metavar="XY",
        help="x y of left eye, right eye, nose, left and right mouth "
        "corner on the onset, left and right as the image shows them",
    )
    how.add_argument(
        "--every",
        type=int,
        metavar="N",
        help="read every N-th frame of a video; for flow: N frames between onsets",
    )
    how.add_argument(
        "--interval",
        type=float,
        metavar="S",
        help="seconds from onset to apex in a video (default 0.2)",
    )
    how.add_argument(
        "--spot",
        action="store_true",
        help="of a video, with a run trained on flow: find where faces move: onset, apex, offset",
    )
    how.add_argument(
        "--smooth",
        type=float,
        metavar="S",
        help="of a video: each person's probabilities are the mean of log odds over S seconds; "
        "calibrated only if the run was evaluated on clips; without sets",
    )
    how.add_argument(
        "--clip",
        action="store_true",
        help="of a video: one row for each person, a decision of the whole clip, instead of one "
        "for each frame",
    )
    how.add_argument("--mesh", action="store_true", help="also write the 468 points of each face")
    how.add_argument(
        "--onset",
        type=int,
        metavar="N",
        help="with --apex: only these two frames of a video, numbered from 0",
    )
    how.add_argument("--apex", type=int, metavar="N")
    how.add_argument(
        "--trial",
        type=int,
        metavar="N",
        help="one trial of a cross-validation, instead of all as an ensemble",
    )
    how.add_argument(
        "--selection",
        choices=("last", "best_val"),
        help="weights of this epoch (default: those of the run's result)",
    )
    how.add_argument(
        "--coverage",
        type=float,
        metavar="C",
        help="how often sets should contain the true class, 0.5 to 0.99 (default 0.9); if given, "
        "rows whose set contains several classes are decided 'uncertain'",
    )
    out = p.add_argument_group("output")
    out.add_argument(
        "--out",
        type=local_path,
        metavar="FILE",
        help="a .csv or .jsonl file (default: standard output)",
    )
    out.add_argument(
        "--format",
        choices=("csv", "jsonl"),
        help="if the file's name does not tell (default csv)",
    )
    out.add_argument(
        "--annotate",
        type=local_path,
        metavar="PATH",
        help="draw boxes and decisions: into a folder, or of a video into this .mp4",
    )
    return p


def recognise(args: argparse.Namespace) -> None:
    """Runs the command line.

    Raises:
      UserError: run, pictures or videos that cannot be used, or output that cannot be written.
    """
    check(args)
    # imported after the flags are parsed: --help and mistakes are answered at once
    from fexpr.recognizer import BATCH, Recognizer, read_out

    batch = 1 if args.camera is not None or args.pair else FRAMES if args.video else BATCH
    recognizer = Recognizer.restore(
        zoo.run_or_model(args.run_dir), args.selection, args.trial, batch, args.coverage
    )
    describe(recognizer, args)
    work = (
        read_out.moving
        if args.video or args.camera is not None
        else read_out.pairs
        if args.pair
        else read_out.pictures
    )
    with read_out.output(args) as write, contextlib.closing(work(recognizer, args)) as tables:
        for table in tables:
            write(table)


def describe(recognizer: Recognizer, args: argparse.Namespace) -> None:
    """Prints on stderr which model, maps and thresholds decide."""
    from fexpr.recognizer import calibrated, clip, smoothing

    content, errors = recognizer.content, terminal.errors
    members = (
        f"trial {recognizer.members[0]}"
        if len(recognizer.members) == 1
        else f"ensemble of {len(recognizer.members)} trials"
    )
    left_out = recognizer.trials - len(recognizer.members)
    if len(recognizer.members) > 1 and left_out:
        members += f" ({left_out} failed and left out)"
    if recognizer.multilabel:
        how = (
            "; thresholds of the run's validation rows"
            if recognizer.thresholds is not None
            else "; no thresholds: decided at 0.5"
        )
    else:
        how = ""
    errors.print(
        f"run        {content['model']['name']} on {content['data']['source']}, {members}, "
        f"{recognizer.selection}{how}",
        markup=False,
    )
    maps, limits, rows = recognizer.maps, recognizer.limits, "rows"
    if args.clip and (sums := clip.ClipSums(recognizer)).rule != clip.LOG_ODDS:
        (maps, limits), rows = sums.calibration, "clips"
    errors.print(f"calibration {calibrated.in_words(maps)}", markup=False)
    if args.smooth or (args.clip and rows == "rows"):
        found = smoothing.window_map(recognizer, args.smooth) if args.smooth else None
        over = f"{args.smooth:g} s" if args.smooth else "the whole clip"
        frames = "were calibrated" if recognizer.calibrated else "were not calibrated"
        means = f"were, by a temperature of {found.temperature:.2f}" if found else "were not"
        errors.print(
            f"sets       none: decided by a mean over {over}; single frames {frames}, such means "
            f"{means}",
            markup=False,
        )
    elif limits is not None:
        wanted = recognizer.coverage or calibrated.COVERAGE
        what = "every unit present" if recognizer.multilabel else "the true class"
        errors.print(
            f"sets       hold {what} for about {wanted:.0%} of new {rows} like the validation rows",
            markup=False,
        )
    if content["data"]["source"] == "synthetic":
        errors.print(
            "trained on SYNTHETIC data: its predictions for real faces mean nothing",
            markup=False,
            style=terminal.BANNER,
        )


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return terminal.exit_code(lambda: recognise(args))


if __name__ == "__main__":
    terminal.quiet()
    compiled.set_environment()
    sys.exit(main())
