"""Finding faces, measured: recall, false alarms, landmark errors and time.

    python -m benchmarks.faces [--fer2013=FOLDER]

Test pictures: astronaut.png (turned, blurred, shrunk; five points marked by hand), lfw_subset.npy
(100 faces of 25x25 pixels and 100 patches without one), both of scikit-image (`pip install
scikit-image`), whose LBP cascade, the finder of earlier versions, is measured beside; drawn faces,
whose points are known. Nothing of the finder was trained on them. `--fer2013`: a folder of
FER2013's images, of which every 20th is read.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import skimage.data
from skimage.feature import Cascade

from benchmarks.quick import add_quick
from fexpr import faces
from fexpr.data.synthetic import ravdess_clips

POINTS = np.array([[203.0, 102], [246, 104], [223, 128], [199, 139], [247, 141]])
Finder = Callable[[np.ndarray], list[np.ndarray]]  # picture -> centres of faces


def mesh_finder(pixels: np.ndarray) -> list[np.ndarray]:
    return [face.points.mean(axis=0) for face in faces.find(pixels)]


def cascade_finder(pixels: np.ndarray) -> list[np.ndarray]:
    """As fexpr used it until 0.1: pictures of at most 480 pixels, faces from an eighth of them."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) if pixels.ndim == 3 else pixels
    shrink = max(1.0, max(grey.shape) / 480)
    small = cv2.resize(grey, None, fx=1 / shrink, fy=1 / shrink, interpolation=cv2.INTER_AREA)
    least, most = max(1, min(small.shape) // 8), min(small.shape)
    cascade = Cascade(skimage.data.lbp_frontal_face_cascade_filename())
    found = cascade.detect_multi_scale(
        small, scale_factor=1.1, step_ratio=1, min_size=(least, least), max_size=(most, most)
    )
    return [shrink * np.array([f["c"] + f["width"] / 2, f["r"] + f["height"] / 2]) for f in found]


def portraits() -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    """Kind of change -> pictures with the five points."""
    photo = skimage.data.astronaut()

    def turned(degrees: float) -> tuple[np.ndarray, np.ndarray]:
        transform = cv2.getRotationMatrix2D((225, 125), degrees, 1.0)
        picture = cv2.warpAffine(photo, transform, (512, 512), borderValue=(110, 110, 110))
        return picture, cv2.transform(POINTS[None], transform)[0]

    def shrunk(factor: float) -> tuple[np.ndarray, np.ndarray]:
        canvas = np.full((640, 640, 3), 110, np.uint8)
        small = cv2.resize(photo, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        canvas[100 : 100 + len(small), 150 : 150 + small.shape[1]] = small
        return canvas, POINTS * factor + [150, 100]

    blurred = [(cv2.GaussianBlur(photo, (0, 0), sigma), POINTS) for sigma in (1, 2, 3, 4)]
    return {
        "turned by up to 45 degrees": [turned(d) for d in (-45, -30, -15, 0, 15, 30, 45)],
        "turned further": [turned(d) for d in (-135, -90, 90, 135, 180)],
        "blurred by 1 to 4 pixels": blurred,
        "faces of 80 to 20 pixels": [shrunk(f) for f in (0.8, 0.6, 0.4, 0.3, 0.2)],
    }


def drawn() -> list[tuple[np.ndarray, np.ndarray]]:
    take = ravdess_clips.plan(1, 3, 8, seed=3)[2]
    made = []
    for seed in range(20):
        face = ravdess_clips.random_face(np.random.default_rng([5, seed]))
        portrait = ravdess_clips.Portrait(face)
        made.append((next(iter(ravdess_clips.render(portrait, take, 3))), face.landmarks()))
    return made


def hits(finder: Finder, pictures: Sequence[tuple[np.ndarray, np.ndarray]]) -> str:
    """'found/all, false': a face counts whose centre lies within half an eye distance."""
    found = false = 0
    for picture, points in pictures:
        reach = np.linalg.norm(points[1] - points[0])
        near = [np.linalg.norm(c - points.mean(axis=0)) < reach for c in finder(picture)]
        found, false = found + any(near), false + len(near) - any(near)
    return f"{found}/{len(pictures)}, {false} false"


def landmark_error(pictures: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    """Mean distance of the five points of faces that are found, in % of the eyes' distance."""
    errors = []
    for picture, points in pictures:
        for face in faces.find(picture):
            distance = np.linalg.norm(face.points - points, axis=1).mean()
            errors.append(100 * distance / np.linalg.norm(points[1] - points[0]))
    return float(np.median(errors))


def median_ms(work: Callable[[], object], times: int = 7) -> float:
    work()
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        taken.append(1000 * (time.perf_counter() - start))
    return float(np.median(taken))


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--fer2013", type=Path, metavar="FOLDER")
    p.add_argument("--most", type=int, metavar="N", help="pictures of each kind, at most")
    add_quick(p, most=1)
    return p


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    print(f"{'':34} {'fexpr':>18} {'LBP cascade':>18}")
    for kind, pictures in {**portraits(), "drawn": drawn()}.items():
        pictures = pictures[: args.most]
        print(
            f"{kind:34} {hits(mesh_finder, pictures):>18} {hits(cascade_finder, pictures):>18}"
            f"   landmarks {landmark_error(pictures):.1f} %"
        )
    patches = np.uint8(255 * skimage.data.lfw_subset())
    for kind, some in (("faces", patches[:100]), ("patches without", patches[100:])):
        some = some[: args.most]
        counts = [sum(bool(f(patch)) for patch in some) for f in (mesh_finder, cascade_finder)]
        print(f"{f'lfw_subset, {kind}':34} {counts[0]:>18} {counts[1]:>18}")
    if args.fer2013:
        paths = sorted(args.fer2013.rglob("*.jpg"))[::20][: args.most]
        grey = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in paths]
        counts = [sum(bool(f(face)) for face in grey) for f in (mesh_finder, cascade_finder)]
        print(f"{f'FER2013, {len(grey)} faces':34} {counts[0]:>18} {counts[1]:>18}")
    photo = skimage.data.astronaut()
    print(f"a photograph of 512x512: {median_ms(lambda: faces.find(photo)):.0f} ms")
    print(f"the cascade: {median_ms(lambda: cascade_finder(photo), 3):.0f} ms")
    frame = cv2.resize(photo[:384], (640, 480))
    tracker, clock = faces.Tracker(), iter(np.arange(10_000) / 25)
    for _ in range(5):
        tracker.update(frame, next(clock))
    start, count = time.perf_counter(), 50
    for _ in range(count):
        tracker.update(frame, next(clock))
    print(f"frames of 640x480 followed: {count / (time.perf_counter() - start):.0f} a second")


if __name__ == "__main__":
    main()
