"""The rows that the recogniser's command writes, in batches, and its drawings."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import TextIO

import pandas as pd

from fexpr import terminal
from fexpr.errors import UserError
from fexpr.recognizer import (
    Recognizer,
    clip,
    draw,
    images,
    picture_files,
    prediction_table,
    smoothing,
    video,
)
from fexpr.recognizer.command_options import FORMATS
from fexpr.recognizer.picture_files import Pictures
from fexpr.recognizer.row_status import NO_FACE, OK, UNREADABLE
from fexpr.signals import noted_interrupt
from fexpr.storage import delimited, run
from fexpr.storage.bounded import LONGEST_NAME

MOST_REASONS = 20  # reasons that are listed if no picture can be read
AT_ONCE = 16  # pictures per batch; every face is a row


class RowsSoFar(KeyboardInterrupt):
    """Ctrl-C ended the work between two tables: those until then are worth keeping."""

    def __init__(self):
        super().__init__("the rows so far are written")


def pictures(
    recognizer: Recognizer, args: argparse.Namespace
) -> Generator[pd.DataFrame, None, None]:
    """Yields the rows of pictures in batches; prints at the end what was read and skipped."""
    flow = recognizer.kind == "flow"
    fit = "exact" if flow else "face" if args.align in (None, "detect") else "resize"
    find = recognizer.face_finder() if fit == "face" else None
    images.check_arguments(recognizer.picture, flow, "HWC", None, None, fit)
    paths, counts, read, reasons = Pictures(args.images), Counter(), 0, []
    remaining = iter(paths)
    with (
        noted_interrupt() as interrupted,
        terminal.progress("pictures", None, on=terminal.errors) as advance,
    ):
        while not interrupted() and (some := list(islice(remaining, AT_ONCE))):
            rows = images.collect_images(
                some, recognizer.picture, flow, "HWC", None, None, fit, find, keep_unreadable=True
            )
            table = recognizer.tabulate(rows.names, rows.pixels, rows.status)
            if fit == "face":
                table = prediction_table.with_faces(table, rows.faces, args.mesh)
            if args.annotate:
                _draw(recognizer, rows.names, table, args.annotate)
            read += len(some)
            advance(len(some))
            for name, text in zip(rows.names, rows.status, strict=True):
                kind, _, reason = text.partition(": ")
                counts[kind] += 1
                if kind == UNREADABLE and len(reasons) < MOST_REASONS:
                    reasons.append(f"{name}: {reason}")
            yield table
    _summarize(read, counts, paths.passed_over, fit == "face")
    if interrupted():
        raise RowsSoFar
    if counts[UNREADABLE] == read:
        problems = reasons or [f"{path} contains no pictures" for path in args.images]
        raise UserError(
            "none of the pictures can be read" if reasons else "there are no pictures",
            problems,
            fix=("correct them or leave them out" if reasons else "name a folder that holds some")
            + "; pictures are "
            + ", ".join(sorted(picture_files.SUFFIXES)),
        )


def _draw(recognizer: Recognizer, names: list[str], table: pd.DataFrame, folder: Path) -> None:
    """Draws each picture of a table; `names` are the paths of its rows, those of one picture
    together.
    """
    for name, some in groupby(range(len(names)), names.__getitem__):
        rows = table.iloc[list(some)]
        if not rows["status"].iloc[0].startswith(UNREADABLE):
            path = Path(name)
            picture = draw.annotated(picture_files.read(path), rows, recognizer.class_names)
            draw.save(_free(folder, path), picture)


def _summarize(read: int, counts: Counter, passed_over: Counter, looked: bool) -> None:
    words = [f"{read:,} picture{'s' * (read != 1)}"]
    if looked:
        words.append(f"{counts[OK]:,} face{'s' * (counts[OK] != 1)}")
        words.append(f"{counts[NO_FACE]:,} without a face")
    words.append(f"{counts[UNREADABLE]:,} that cannot be read")
    terminal.errors.print(f"read       {', '.join(words)}", markup=False)
    if passed_over:
        kinds = ", ".join(f"{n:,} {kind}" for kind, n in sorted(passed_over.items()))
        terminal.errors.print(
            f"skipped    {sum(passed_over.values()):,} that are not pictures: {kinds}",
            markup=False,
        )


def pairs(recognizer: Recognizer, args: argparse.Namespace) -> Generator[pd.DataFrame, None, None]:
    """Yields the rows of pairs of frames."""
    points = [args.landmarks[i : i + 2] for i in range(0, 10, 2)] if args.landmarks else None
    with terminal.progress("pairs", len(args.pair), on=terminal.errors) as advance:
        for onset, apex in args.pair:
            table = recognizer.predict_pair(
                onset, apex, align=args.align or "detect", landmarks=points
            )
            if args.annotate:
                picture = draw.annotated(
                    picture_files.read(Path(apex)), table, recognizer.class_names
                )
                draw.save(_free(args.annotate, Path(apex)), picture)
            advance()
            yield table


def moving(recognizer: Recognizer, args: argparse.Namespace) -> Generator[pd.DataFrame, None, None]:
    """Yields the rows of a video or a camera, a few frames at a time."""
    if args.spot:
        yield recognizer.spot(args.video)
        return
    if args.onset is not None:
        yield recognizer.predict_video(
            args.video, onset=args.onset, apex=args.apex, align=args.align or "detect"
        )
        return
    flow = recognizer.kind == "flow"
    if args.interval and not flow:
        raise UserError("--interval is read by runs trained on flow; this run reads single frames")
    sums, interval = clip.ClipSums(recognizer), args.interval or video.INTERVAL
    if args.clip:
        sums.check_coverage()
    source = video.Video(args.camera if args.camera is not None else args.video)
    step = args.every or (max(1, round(interval * source.fps)) if flow else 1)
    fps = (source.fps or 10) / step  # a camera may not know its frame rate
    with (
        noted_interrupt(source.stop) as interrupted,
        draw.film(args.annotate, fps) if args.annotate else contextlib.nullcontext() as film,
        terminal.progress("frames", source.count or None, on=terminal.errors) as advance,
    ):
        tables = video.batches(
            recognizer, source, args.every, interval, args.align or "detect", args.mesh, sums
        )
        tables = _drawn(recognizer, tables, film, advance)
        if args.clip:
            deque(tables, maxlen=0)  # frame by frame, for their sums
            yield sums.table(str(source.source), source.break_off)
        else:
            yield from (
                smoothing.smoothed(recognizer, tables, args.smooth) if args.smooth else tables
            )
    for i, line in enumerate(sums.in_words()):
        terminal.errors.print(f"{'' if i else 'clip':10} {line}", markup=False)
    if source.break_off:
        terminal.errors.print(
            f"{args.video} {source.break_off}", markup=False, style=terminal.BANNER
        )
    if interrupted() and args.camera is None:  # which has no other end
        raise RowsSoFar


def _drawn(
    recognizer: Recognizer,
    tables: Iterable[tuple[list[video.Frame], pd.DataFrame]],
    film: draw.Film | None,
    advance: Callable[..., None],
) -> Iterator[pd.DataFrame]:
    """Yields the tables of a video, and draws its frames into `film`."""
    last = 0
    for frames, table in tables:
        if film:
            first = {name: i for i, name in reversed(list(enumerate(table.index)))}
            for name, rows in table.groupby(level=0, sort=False):
                frame = frames[first[name]]
                film.add(draw.annotated(frame.pixels, rows, recognizer.class_names))
        advance(frames[-1].number + 1 - last, f"{table['decision'].iloc[-1]}")
        last = frames[-1].number + 1
        yield table


def write_rows(table: pd.DataFrame, stream: TextIO, kind: str, first: bool) -> None:
    """Writes rows as 'csv' (with a header if `first`), or as 'jsonl'."""
    if kind == "csv":
        cell = _terminal_cell if stream.isatty() else delimited.safe_cell
        table = table.map(cell).rename(index=cell)
        table.to_csv(stream, header=first, lineterminator="\n")
    else:
        table.reset_index().to_json(stream, orient="records", lines=True, force_ascii=False)


def _terminal_cell(value: object) -> object:
    """A cell for a terminal, which the control characters in a file's name would command."""
    value = delimited.safe_cell(value)
    return terminal.printable(value) if isinstance(value, str) else value


@contextlib.contextmanager
def output(args: argparse.Namespace) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Yields a function that writes a table's rows; a file gets its name once it is complete."""
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
            write_rows(table, stream, kind, first)
            first = False
            stream.flush()

        ended = None
        try:
            yield write
        except RowsSoFar as e:
            ended = e
    if ended:
        raise ended


def _free(folder: Path, path: Path) -> Path:
    """A free path for the drawing of a picture: pictures of the same name from several folders do
    not overwrite each other.
    """
    stem = os.fsdecode(os.fsencode(path.stem)[:LONGEST_NAME])
    tried, n = folder / f"{stem}.png", 1
    while tried.exists():
        n += 1
        tried = folder / f"{stem}_{n}.png"
    return tried
