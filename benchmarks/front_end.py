"""`fexpr recognize` as a person runs it, from files to a table: frames of a video and pictures a
second, and whether memory grows with their number.

    python -m benchmarks.front_end --frames 100 500 --pictures 50 200
    python -m benchmarks.front_end --frames --pictures 1000 10000 --side=64 --align=none

Needs scikit-image, whose astronaut.png is shown: as a video of 640x480 in which she moves about,
and as a folder of photographs (each moved by some pixels); `--align=none` reads them without
looking for faces. Every command is a process of its own; rates are of the difference between a long
and a short one, so that starting and compiling do not count. CPU seconds are given too: on a shared
machine they say what the wall clock does not.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import skimage.data

from benchmarks.quick import add_quick

ROOT = Path(__file__).parents[1]


class Cost(NamedTuple):
    """Of one command: seconds on the wall and of CPU, largest resident size in MB."""

    wall: float
    cpu: float
    memory: float


def cost(*arguments: str) -> Cost:
    """Of `fexpr recognize` with these arguments."""
    command = [sys.executable, "-m", "fexpr", "recognize", *arguments]
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed")
    seconds = time.perf_counter() - start
    return Cost(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def write_video(path: Path, frames: int) -> None:
    still = cv2.resize(skimage.data.astronaut()[:384, :, ::-1], (640, 480))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 25, (640, 480))
    for i in range(frames):
        shift = 40 * np.sin(i / 20), 20 * np.sin(i / 33)
        transform = np.float32([[1, 0, shift[0]], [0, 1, shift[1]]])
        writer.write(cv2.warpAffine(still, transform, (640, 480), borderMode=cv2.BORDER_REPLICATE))
    writer.release()


def write_pictures(folder: Path, count: int, side: int) -> None:
    folder.mkdir()
    still = cv2.resize(skimage.data.astronaut()[..., ::-1], (side, side))
    for i in range(count):
        moved = np.roll(still, (i % 40, i // 40 % 40), axis=(0, 1))
        cv2.imwrite(str(folder / f"{i:06}.jpg"), moved)


def report(what: str, counts: Sequence[int], costs: Sequence[Cost]) -> None:
    for count, one in zip(counts, costs, strict=True):
        print(
            f"{count:6} {what}: {one.wall:.1f} s, {one.cpu:.1f} s of CPU, "
            f"at most {one.memory:.0f} MB"
        )
    few, many = min(range(len(counts)), key=counts.__getitem__), int(np.argmax(counts))
    more = counts[many] - counts[few]
    if more:
        wall, cpu = (costs[many][i] - costs[few][i] for i in (0, 1))
        print(f"       {more / wall:.1f} {what} a second, {1000 * cpu / more:.0f} ms of CPU each")


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--frames", type=int, nargs="*", default=[100, 500], metavar="N")
    p.add_argument("--pictures", type=int, nargs="*", default=[50, 200], metavar="N")
    p.add_argument("--side", type=int, default=512, metavar="P", help="pixels of a picture")
    p.add_argument("--align", choices=("detect", "none"), default="detect")
    p.add_argument("--model", default="fer2013")
    add_quick(p, frames=[2, 4], pictures=[1, 2], side=128)
    return p


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        for what, counts in (("frames", args.frames), ("pictures", args.pictures)):
            costs = []
            for count in counts:
                path = Path(folder, f"{count}.mp4" if what == "frames" else f"{count}")
                if what == "frames":
                    write_video(path, count)
                else:
                    write_pictures(path, count, args.side)
                costs.append(cost(args.model, str(path), f"--align={args.align}"))
            if counts:
                report(what, counts, costs)


if __name__ == "__main__":
    main()
