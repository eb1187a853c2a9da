"""Recognises expressions in pictures, pairs of frames, videos and from a camera, with a finished
run: see --help.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

# C++ chatter of XLA; must be set before it is loaded
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pandas as pd

from fexpr import terminal
from fexpr.errors import UserError
from fexpr.storage import delimited, run, zoo

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
FORMATS = {".csv": "csv", ".jsonl": "jsonl"}
FRAMES = 8  # of a video at a time


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog=terminal.program("fexpr.recognizer"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Recognises expressions in pictures, pairs of frames, videos and from a camera, with "
        "nothing but a trained model or a finished run.\n"
        "One row for each picture, pair or frame: decision, the set of classes that holds the "
        "truth nine times in ten (--coverage),\n"
        "entropy (0: sure, 1: knows nothing), a probability of each class, calibrated where a map "
        "helped on validation rows. All trials\n"
        "of a cross-validation answer together, with their spread.",
        epilog="examples:\n  python -m fexpr.recognizer runs/cnn_simple_fer2013 anna.png photos/ "
        "--out=faces.csv --annotate=drawn\n"
        "  python -m fexpr.recognizer runs/cnn_simple_fer2013.zip --video talk.mp4 --every=5 "
        "--out=talk.jsonl --annotate=talk_drawn.mp4\n"
        "  python -m fexpr.recognizer runs/htnet_samm --pair onset.png apex.png --align=none\n"
        "  python -m fexpr.recognizer runs/htnet_samm --video clip.avi --interval=0.15\n"
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
        help="pictures, or folders of them; for a run trained on flow: flow maps",
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
        help="detect (default): the face is found and cut out, which "
        "needs scikit-image; none: frames show the face alone, cropped as in training; "
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
        help="read one of N frames of a video; of flow: N frames between onsets",
    )
    how.add_argument(
        "--interval",
        type=float,
        default=0.2,
        metavar="S",
        help="seconds from onset to apex in a video (default 0.2)",
    )
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
        help="how often a set is to hold the truth, 0.5 to 0.99 (default 0.9); where given, rows "
        "whose set holds several classes are decided 'uncertain'",
    )
    out = p.add_argument_group("output")
    out.add_argument(
        "--out", type=Path, metavar="FILE", help="a .csv or .jsonl file (default: standard output)"
    )
    out.add_argument(
        "--format",
        choices=("csv", "jsonl"),
        help="where the file's name does not say (default csv)",
    )
    out.add_argument(
        "--annotate",
        type=Path,
        metavar="PATH",
        help="draw boxes and decisions: into a folder, or of a video into this .mp4",
    )
    return p


def check(args: argparse.Namespace) -> None:
    """Raises one UserError with everything on the command line that does not go together."""
    sources = {
        "pictures": bool(args.images),
        "--pair": bool(args.pair),
        "--video": args.video is not None,
        "--camera": args.camera is not None,
    }
    given = [name for name, there in sources.items() if there]
    moving = bool({"--video", "--camera"} & set(given))
    problems = (
        []
        if len(given) == 1
        else [
            f"what to read: expected one of {', '.join(sources)}; found "
            f"{' and '.join(given) or 'none'}"
        ]
    )
    if args.out and args.format is None and args.out.suffix not in FORMATS:
        problems.append(f"--out={args.out}: name it .csv or .jsonl, or say --format")
    if (args.align == "landmarks") != (args.landmarks is not None) or (
        args.landmarks and not args.pair
    ):
        problems.append("--align=landmarks and --landmarks go together, with --pair")
    two = (args.onset is not None, args.apex is not None)
    if any(two) and not (all(two) and args.video and not args.annotate):
        problems.append("--onset and --apex go together, with --video and without --annotate")
    if moving and args.annotate and args.annotate.suffix != ".mp4":
        problems.append(f"--annotate={args.annotate}: an annotated video is a .mp4 file")
    if problems:
        raise UserError(
            "the command line cannot be used",
            problems,
            fix=f"{terminal.program('fexpr.recognizer')} --help",
        )


def recognise(args: argparse.Namespace) -> None:
    """Does what the command line says.

    Raises:
      UserError: run, pictures or videos that cannot be used, or output that cannot be written.
    """
    check(args)
    # after the flags: --help and mistakes answer at once
    from fexpr.recognizer import BATCH, Recognizer

    batch = 1 if args.camera is not None or args.pair else FRAMES if args.video else BATCH
    recognizer = Recognizer.restore(
        zoo.run_or_model(args.run_dir), args.selection, args.trial, batch, args.coverage
    )
    describe(recognizer)
    work = moving if args.video or args.camera is not None else pairs if args.pair else pictures
    with _output(args) as write, contextlib.closing(work(recognizer, args)) as tables:
        for table in tables:
            write(table)


def describe(recognizer: Any) -> None:
    """Says on stderr with what it is decided."""
    from fexpr.recognizer import calibrated

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
    errors.print(f"calibration {calibrated.in_words(recognizer.maps)}", markup=False)
    if recognizer.limits is not None:
        wanted = recognizer.coverage or calibrated.COVERAGE
        what = "every unit present" if recognizer.multilabel else "the true class"
        errors.print(
            f"sets       hold {what} for about {wanted:.0%} of new rows like the validation rows",
            markup=False,
        )
    if content["data"]["source"] == "synthetic":
        errors.print(
            "trained on SYNTHETIC data: what it says of real faces means nothing",
            markup=False,
            style=terminal.BANNER,
        )


def pictures(recognizer: Any, args: argparse.Namespace) -> Iterator[pd.DataFrame]:
    """The rows of pictures, a batch at a time."""
    from fexpr.recognizer import draw, face_finder, images

    flow = recognizer.kind == "flow"
    fit = "exact" if flow else "face" if args.align in (None, "detect") else "resize"
    if fit == "face":
        face_finder.need_detector()
    paths = _files(args.images)
    with terminal.progress("pictures", len(paths), on=terminal.errors) as advance:
        for start in range(0, len(paths), recognizer.batch):
            some, boxes = paths[start : start + recognizer.batch], []

            def find(pixels, size, boxes=boxes):
                boxes.append(face_finder.box_of(pixels))
                return None if boxes[-1] is None else face_finder.cut(pixels, boxes[-1], size)

            names, pixels, found = images.gathered(
                some, recognizer.picture, flow, "HWC", None, None, fit, find
            )
            table = recognizer.tabulate(names, pixels, found)
            if args.annotate:
                for path, (_, row), box in zip(
                    some, table.iterrows(), boxes or [None] * len(some), strict=True
                ):
                    picture = draw.annotated(
                        images.read(path, (0, 0, 3)), row, recognizer.class_names, box
                    )
                    draw.save(_free(args.annotate, path), picture)
            advance(len(some))
            yield table


def pairs(recognizer: Any, args: argparse.Namespace) -> Iterator[pd.DataFrame]:
    """The rows of pairs of frames."""
    from fexpr.recognizer import draw, images

    points = [args.landmarks[i : i + 2] for i in range(0, 10, 2)] if args.landmarks else None
    with terminal.progress("pairs", len(args.pair), on=terminal.errors) as advance:
        for onset, apex in args.pair:
            table = recognizer.predict_pair(
                onset, apex, align=args.align or "detect", landmarks=points
            )
            if args.annotate:
                picture = draw.annotated(
                    images.read(Path(apex), (0, 0, 3)), table.iloc[0], recognizer.class_names, None
                )
                draw.save(_free(args.annotate, Path(apex)), picture)
            advance()
            yield table


def moving(recognizer: Any, args: argparse.Namespace) -> Iterator[pd.DataFrame]:
    """The rows of a video or a camera, a few frames at a time."""
    from fexpr.recognizer import draw, video

    if args.onset is not None:
        yield recognizer.predict_video(
            args.video, onset=args.onset, apex=args.apex, align=args.align or "detect"
        )
        return
    source = video.Video(args.camera if args.camera is not None else args.video)
    step = args.every or (
        max(1, round(args.interval * source.fps)) if recognizer.kind == "flow" else 1
    )
    fps = (source.fps or 10) / step  # a camera may not know how fast it is
    with (
        _ended_by_interrupt(source, args.camera is not None),
        draw.film(args.annotate, fps) if args.annotate else contextlib.nullcontext() as film,
        terminal.progress("frames", source.count or None, on=terminal.errors) as advance,
    ):
        last = 0
        for frames, table in video.batches(
            recognizer, source, args.every, args.interval, args.align or "detect"
        ):
            for frame, (_, row) in zip(frames, table.iterrows(), strict=True):
                if film:
                    film.add(draw.annotated(frame.pixels, row, recognizer.class_names, frame.box))
            advance(frames[-1].number + 1 - last, f"{table['decision'].iloc[-1]}")
            last = frames[-1].number + 1
            yield table


@contextlib.contextmanager
def _ended_by_interrupt(source: Any, so: bool) -> Iterator[None]:
    """Where `so`, Ctrl-C ends the video and not the program: what a camera has shown until then is
    written.
    """
    before = signal.getsignal(signal.SIGINT)
    if so:
        signal.signal(signal.SIGINT, lambda *_: source.stop())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _output(args: argparse.Namespace) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Yields a function that writes a table's rows; a file is at its name once it is whole."""
    kind = args.format or (FORMATS[args.out.suffix] if args.out else "csv")
    with contextlib.ExitStack() as stack:
        stream: TextIO = sys.stdout
        if args.out:
            stream = stack.enter_context(
                open(
                    stack.enter_context(run.atomic_path(args.out)),
                    "w",
                    encoding="utf-8",
                    newline="",
                )
            )
        first = True

        def write(table: pd.DataFrame) -> None:
            nonlocal first
            if kind == "csv":
                table = table.map(delimited.safe_cell).rename(index=delimited.safe_cell)
                table.to_csv(stream, header=first, lineterminator="\n")
            else:
                table.reset_index().to_json(stream, orient="records", lines=True, force_ascii=False)
            first = False
            stream.flush()

        yield write


def _files(given: Sequence[str]) -> list[Path]:
    """The pictures named, those of folders in the order of their names."""
    files, problems = [], []
    for path in map(Path, given):
        inside = (
            sorted(p for p in path.iterdir() if p.suffix.lower() in PICTURES)
            if path.is_dir()
            else [path]
        )
        if not inside or not (path.is_dir() or path.is_file()):
            problems.append(
                f"{path} " + ("holds no pictures" if path.is_dir() else "does not exist")
            )
        files += inside
    if problems:
        raise UserError(
            "there are no such pictures", problems, fix=f"pictures are {', '.join(PICTURES)}"
        )
    return files


def _free(folder: Path, path: Path) -> Path:
    """Where the drawing of a picture goes: pictures of one name from several folders do not
    overwrite one another.
    """
    tried, n = folder / f"{path.stem}.png", 1
    while tried.exists():
        n += 1
        tried = folder / f"{path.stem}_{n}.png"
    return tried


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return terminal.exit_code(lambda: recognise(args))


if __name__ == "__main__":
    terminal.quiet()
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(run.cache_dir() / "compiled"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    sys.exit(main())
