"""How well movements are spotted in long videos of drawn faces (data/synthetic/long_videos.py).

    python -m benchmarks.movements --videos=4 --seconds=20

As the spotting challenges count (Li et al., MEGC 2019 to 2021): a movement is found if a spotted
interval overlaps it by half of their union at least; F1 over all videos of a kind.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np

from benchmarks.quick import add_quick
from fexpr.data.synthetic import long_videos
from fexpr.faces import Tracker
from fexpr.faces.motion import MotionMeter
from fexpr.faces.spotting import Spotted, answer, spot

KINDS = {
    "head still": {},
    "head moves": {"head": True},
    "blinks": {"blinks": True},
    "light changes": {"light": True},
    "all of these": {"head": True, "blinks": True, "light": True},
}


def spotted(video: long_videos.LongVideo) -> tuple[list[Spotted], str]:
    """The movements found in a video, and the answer."""
    tracker, meter = Tracker(), MotionMeter()
    displacement, points, seconds = [], [], []
    for number, frame in enumerate(video.frames()):
        t = number / long_videos.FPS
        for face in tracker.update(frame, t)[:1]:
            displacement.append(meter.update(frame, face.mesh, t))
            points.append(face.points)
            seconds.append(t)
    found = spot(np.array(displacement), np.array(seconds))
    return found, answer(found, np.array(points))


def hits(found: Sequence[Spotted], truth: Sequence[long_videos.Movement]) -> int:
    """Movements that an interval found overlaps by half of their union at least."""
    return sum(
        any(_overlap((one.onset, one.offset), (true.onset, true.offset)) >= 0.5 for one in found)
        for true in truth
    )


def _overlap(a: tuple[int, int], b: tuple[int, int]) -> float:
    common = min(a[1], b[1]) - max(a[0], b[0]) + 1
    return max(0, common) / (max(a[1], b[1]) - min(a[0], b[0]) + 1)


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--videos", type=int, default=4, metavar="N", help="of each kind")
    p.add_argument("--seconds", type=float, default=20, metavar="S", help="of each video")
    p.add_argument("--seed", type=int, default=100)
    add_quick(p, videos=1, seconds=3.0)
    return p


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    print(f"{'':14} {'movements':>10} {'found':>6} {'false':>6} {'F1':>5}  frames a second")
    for kind, disturbances in KINDS.items():
        true = right = false = count = 0
        start = time.perf_counter()
        for i in range(args.videos):
            video = long_videos.plan(args.seed + i, args.seconds, **disturbances)
            found, _ = spotted(video)
            right_here = hits(found, video.movements)
            true, right = true + len(video.movements), right + right_here
            false, count = false + len(found) - right_here, count + video.count
        f1 = 2 * right / max(1, true + right + false)
        rate = count / (time.perf_counter() - start)
        print(f"{kind:14} {true:>10} {right:>6} {false:>6} {f1:>5.2f}  {rate:.0f}", flush=True)
    quiet = [
        spotted(long_videos.LongVideo(args.seed + i, 5.0, (), head=True))[1]
        for i in range(args.videos)
    ]
    print(f"a head that moves alone: {', '.join(quiet)}")


if __name__ == "__main__":
    main()
