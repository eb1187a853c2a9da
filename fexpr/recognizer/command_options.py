"""Which options of the recogniser's command go together."""

from __future__ import annotations

import argparse
from pathlib import Path

from fexpr import terminal
from fexpr.errors import UserError

FORMATS = {".csv": "csv", ".jsonl": "jsonl"}
VIDEOS = frozenset([".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"])
PICTURES, PAIRS, FRAMES = "pictures", "--pair", "the frames of a video"
CLIP, SPOT, TWO_FRAMES = "--clip", "--spot", "--onset and --apex"
# what reads an option; elsewhere it would be ignored, which is an error
READ_BY = {
    "align": (PICTURES, PAIRS, FRAMES, CLIP, TWO_FRAMES),
    "landmarks": (PAIRS,),
    "every": (FRAMES, CLIP),
    "interval": (FRAMES, CLIP),
    "smooth": (FRAMES,),
    "mesh": (PICTURES, FRAMES),
    "annotate": (PICTURES, PAIRS, FRAMES, CLIP),
}
POSITIVE = ("every", "interval", "smooth")
LONGEST = 10**6  # seconds, or frames


def check(args: argparse.Namespace) -> None:
    """Raises one UserError that lists all options that contradict each other, or would be ignored.
    A video given like a picture, without --video, is treated as that of --video.
    """
    videos = [name for name in args.images if Path(name).suffix.lower() in VIDEOS]
    if len(videos) == len(args.images) == 1 and not args.video:
        args.video, args.images = args.images[0], []
    sources = {
        PICTURES: bool(args.images),
        PAIRS: bool(args.pair),
        "--video": args.video is not None,
        "--camera": args.camera is not None,
    }
    given = [name for name, is_given in sources.items() if is_given]
    problems = [f"{', '.join(videos)}: give one video alone"] if args.images and videos else []
    if len(given) == 1:
        problems += _ignored(args, given[0])
    else:
        problems.append(
            f"what to read: expected one of {', '.join(sources)}; found "
            f"{' and '.join(given) or 'none'}"
        )
    problems += _values(args)
    if problems:
        raise UserError(
            "the command line cannot be used",
            problems,
            fix=f"{terminal.program('fexpr.recognizer')} --help",
        )


def _ignored(args: argparse.Namespace, source: str) -> list[str]:
    """Options that the source does not read, or that exclude one another."""
    moving = source in ("--video", "--camera")
    two = args.onset is not None or args.apex is not None
    modes = {CLIP: args.clip, SPOT: args.spot, TWO_FRAMES: two}
    chosen = [mode for mode, is_given in modes.items() if is_given]
    problems = []
    if chosen and not moving:
        problems += [f"{mode} needs a video" for mode in chosen]
    elif source == "--camera":
        problems += [f"{mode} needs --video" for mode in chosen if mode != CLIP]
    if len(chosen) > 1:
        problems.append(f"{' and '.join(chosen)} cannot be combined")
    if two and (args.onset is None or args.apex is None):
        problems.append("--onset and --apex must be given together")
    if args.align == "landmarks" and source == PAIRS and args.landmarks is None:
        problems.append("--align=landmarks needs --landmarks, which is not given")
    if args.landmarks is not None and args.align != "landmarks":
        problems.append("--landmarks needs --align=landmarks")
    if args.align == "landmarks" and source != PAIRS:
        problems.append("--align=landmarks needs --pair")
    if args.smooth and args.coverage is not None:
        problems.append(
            "--coverage cannot be combined with --smooth: sets hold for single frames, not for "
            "means over several"
        )
    if args.mesh and args.align == "none":
        problems.append("--mesh needs faces that are found: leave out --align=none")
    if len(chosen) > 1 or (chosen and not moving):
        return problems
    mode = chosen[0] if chosen else FRAMES if moving else source
    for name, readers in READ_BY.items():
        if mode not in readers and getattr(args, name) not in (None, False):
            problems.append(f"--{name} is not read with {mode}, only with {', '.join(readers)}")
    if moving and args.annotate and args.annotate.suffix != ".mp4":
        problems.append(f"--annotate={args.annotate}: an annotated video is a .mp4 file")
    return problems


def _values(args: argparse.Namespace) -> list[str]:
    problems = [
        f"--{name}={value}: expected a number above 0, at most {LONGEST}"
        for name in POSITIVE
        if (value := getattr(args, name)) is not None and not 0 < value <= LONGEST
    ]
    if args.camera is not None and args.camera < 0:
        problems.append(f"--camera={args.camera}: expected the number of a camera, from 0")
    if args.out and args.format is None and args.out.suffix not in FORMATS:
        problems.append(f"--out={args.out}: name it .csv or .jsonl, or say --format")
    return problems
