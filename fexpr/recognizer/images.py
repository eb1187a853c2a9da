"""Converts users' images (files, arrays of any layout) to a network's input (uint8 [N, H, W, C]),
by explicit arguments and without guessing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from fexpr.errors import UserError
from fexpr.faces import Face
from fexpr.recognizer import picture_files
from fexpr.recognizer.picture_files import Unusable
from fexpr.recognizer.row_status import NO_FACE, OK, UNREADABLE

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Float32, UInt8

LAYOUTS = ("HWC", "CHW", "HW")
COLOURS = ("grey", "rgb", "bgr")
VALUES = ("0..255", "0..1")
FITS = ("exact", "resize", "face")

Picture = np.ndarray | os.PathLike[str] | str  # an array of pixels, or the path of a file
Pictures = Picture | Sequence[Picture]  # an array has all of them along its first axis
# (pixels [H, W] or [H, W, C], side) -> every face with its crop [side, side] or [side, side, C]
Finder = Callable[[np.ndarray, int], list[tuple[Face, np.ndarray]]]


class Rows(NamedTuple):
    """R rows, one for each image, or for each face of each image.

    Attributes:
      names: of the images. pixels: uint8 [R, H, W, C], zeros where the status is not OK.
      status: OK, NO_FACE, or UNREADABLE and why. faces: those that were found, if faces were
          searched for.
    """

    names: list[str]
    pixels: UInt8[np.ndarray, "R H W C"]
    status: list[str]
    faces: list[Face | None]


def vectors(given: Pictures, features: int) -> Float32[np.ndarray, "N 1 1 {features}"]:
    """Feature vectors [N, F] or [N, 1, 1, F] as the network takes them, float32 [N, 1, 1, F].

    Raises:
      UserError: another shape, or values that are not finite numbers.
    """
    rows = np.asarray(given)
    if (
        rows.dtype.kind not in "iuf"
        or rows.shape[1:] not in ((features,), (1, 1, features))
        or not np.isfinite(rows).all()
    ):
        raise UserError(
            "the recogniser cannot read these rows",
            [f"expected finite numbers [N, {features}], found {rows.dtype} {list(rows.shape)}"],
            fix="it was trained on feature vectors: give the same features, made in the same way",
        )
    return rows.astype(np.float32).reshape(-1, 1, 1, features)


def collect_images(
    images: Pictures,
    shape: tuple[int, int, int],
    flow: bool,
    layout: str,
    colours: str | None,
    values: str | None,
    fit: str,
    find: Finder | None,
    keep_unreadable: bool = False,
) -> Rows:
    """Images as the network takes them.

    Args:
      images: an array [N, ...], or a list of arrays or paths, or a single path.
      shape: (H, W, C) of the network's. flow: whether it reads flow maps, which are never resized,
          cropped or recoloured.
      layout, colours, values, fit: as in `Recognizer.predict`.
      find: finds and cuts out faces; used with fit='face'.
      keep_unreadable: whether a file that cannot be used becomes a row that says so, instead of an
          error.

    Raises:
      UserError: arguments or images that cannot be used; all of them.
    """
    check_arguments(shape, flow, layout, colours, values, fit)
    images = [images] if isinstance(images, (str, os.PathLike)) else images
    if isinstance(images, np.ndarray) and images.ndim != len(layout) + 1:
        raise UserError(
            "the recogniser cannot read these images",
            [
                f"shape: layout {layout!r} is of one image, so expected {len(layout) + 1} "
                f"axes, found {list(images.shape)}"
            ],
            fix="give an array of images (image[None] for one), and layout='HWC', 'CHW' or 'HW'",
        )
    rows: list[tuple[str, np.ndarray | None, str, Face | None]] = []
    problems = []
    for i, image in enumerate(images):
        is_file = isinstance(image, (str, os.PathLike))
        name = os.fspath(image) if is_file else str(i)
        try:
            if is_file:
                one = read(Path(image), shape, flow, fit == "face")
            else:
                # faces are searched for in the colour picture, if it has colours
                wanted = 3 if fit == "face" and colours in ("rgb", "bgr") else shape[2]
                one = _channels(_bytes(_array(image, layout), values), wanted, colours)
            if fit == "face":
                if find is None:
                    raise ValueError("fit='face' needs what finds faces")
                found = find(one, shape[0])
                rows += [(name, in_channels(cut, shape[2]), OK, face) for face, cut in found] or [
                    (name, None, NO_FACE, None)
                ]
            else:
                rows.append((name, _sized(one, shape, fit, flow), OK, None))
        except Unusable as e:
            if is_file and keep_unreadable:
                rows.append((name, None, f"{UNREADABLE}: {e}", None))
            else:
                problems.append(f"{'image ' if not is_file else ''}{name}: {e}")
    if problems:
        kind, others = (
            ("flow maps (u, v, optical strain)", "for frames use predict_pair")
            if flow
            else ("images", "for other images see the arguments of predict")
        )
        raise UserError(
            "the recogniser cannot read these images",
            problems,
            fix=f"correct them or leave them out; it was trained on {kind} of "
            f"{shape[0]}x{shape[1]}x{shape[2]}; {others}",
        )
    pixels = np.zeros((len(rows), *shape), np.uint8)
    for i, (_, image, _, _) in enumerate(rows):
        if image is not None:
            pixels[i] = image.reshape(shape)
    return Rows([row[0] for row in rows], pixels, [row[2] for row in rows], [r[3] for r in rows])


def read(
    path: Path, shape: tuple[int, int, int], flow: bool = False, colour: bool = False
) -> UInt8[np.ndarray, "h w *C"]:
    """The pixels of an image file: uint8 [H, W], grey, or [H, W, 3], RGB, whichever the network
    takes; always RGB if `colour`.

    Raises:
      Unusable: the file is missing or not an image; a flow map that is not RGB of 8 bits; a network
          with other numbers of channels.
    """
    if shape[2] not in (1, 3):
        raise Unusable(
            f"no image file holds the {shape[2]} channels that the run reads: give arrays as "
            "it was trained on"
        )
    if not flow:
        return picture_files.read(path, 3 if colour else shape[2])
    image = picture_files.decode(path, cv2.IMREAD_UNCHANGED)
    if image.ndim != 3 or image.shape[2] != shape[2] or image.dtype != np.uint8:
        raise Unusable(
            "a flow map is an RGB file of 8 bits; this one is "
            + " ".join(map(str, (image.dtype, *image.shape)))
        )
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def in_channels(face: UInt8[np.ndarray, "H W *C"], channels: int) -> UInt8[np.ndarray, "H W *D"]:
    """RGB or grey pixels, converted to the network's number of channels."""
    coloured = face.ndim == 3 and face.shape[2] == 3
    return cv2.cvtColor(face, cv2.COLOR_RGB2GRAY) if coloured and channels == 1 else face


def check_arguments(
    shape: tuple[int, int, int],
    flow: bool,
    layout: str,
    colours: str | None,
    values: str | None,
    fit: str,
) -> None:
    """Raises a UserError with every argument of `collect_images` that is unknown or does not apply
    to images of this shape.
    """
    given = (
        ("layout", layout, LAYOUTS),
        ("colours", colours, (None, *COLOURS)),
        ("values", values, (None, *VALUES)),
        ("fit", fit, FITS),
    )
    problems = [
        f"{name}: expected one of {', '.join(map(repr, known))}; found {value!r}"
        for name, value, known in given
        if value not in known
    ]
    if flow and (fit != "exact" or colours is not None):
        problems.append(
            "the run reads flow maps, whose pixels are motion: they are neither resized, "
            "cropped nor recoloured"
        )
    if shape[2] not in (1, 3) and (fit != "exact" or colours is not None):
        problems.append(
            f"the run reads images of {shape[2]} channels, not all of which are colours: give "
            "arrays as it was trained on"
        )
    if problems:
        raise UserError(
            "the recogniser cannot read images with these arguments",
            problems,
            fix="flow maps need fit='exact', and no colours argument"
            if flow
            else "see the arguments of Recognizer.predict",
        )


def _array(image: np.ndarray, layout: str) -> np.ndarray:
    image = np.asarray(image)
    if image.ndim != len(layout):
        raise Unusable(f"layout {layout!r} has {len(layout)} axes, found shape {list(image.shape)}")
    return (
        image.transpose(1, 2, 0)
        if layout == "CHW"
        else image
        if layout == "HWC"
        else image[..., None]
    )


def _bytes(image: np.ndarray, values: str | None) -> np.ndarray:
    """Converts values to uint8 of the same shape; fractions are rounded, as the training data were
    bytes too.
    """
    if image.dtype == np.uint8 and values in (None, "0..255"):
        return image
    if image.dtype.kind not in "iuf" or image.size == 0:
        raise Unusable(f"expected numbers, found {image.dtype} {list(image.shape)}")
    if values is None:
        raise Unusable(
            f"{image.dtype} from {image.min():g} to {image.max():g}: give values='0..255' or "
            "values='0..1'"
        )
    top = 1 if values == "0..1" else 255
    if not (np.isfinite(image).all() and image.min() >= 0 and image.max() <= top):
        raise Unusable(
            f"values={values!r}, found {image.dtype} from {image.min():g} to {image.max():g}"
        )
    return np.rint(image.astype(np.float64) * (255 / top)).astype(np.uint8)


def _channels(image: np.ndarray, wanted: int, colours: str | None) -> np.ndarray:
    """Converts an image to the colours of the network, uint8 [H, W, C]: 1 channel is grey, 3 are
    RGB.
    """
    expected = {None: wanted, "grey": 1, "rgb": 3, "bgr": 3}[colours]
    if image.shape[2] != expected:
        raise Unusable(
            f"expected {expected} "
            f"channel{'s' * (expected > 1)}{f' ({colours})' if colours else ''}, found "
            f"{image.shape[2]}: if it has another layout or other colours, give layout='CHW', "
            "colours='grey', 'rgb' or 'bgr'"
        )
    if colours is None or (expected, wanted) == (1, 1):
        return image
    if expected == 1:
        return np.repeat(image, wanted, axis=2)
    if wanted == 1:
        return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY if colours == "rgb" else cv2.COLOR_BGR2GRAY)[
            ..., None
        ]
    return image if colours == "rgb" else image[..., ::-1]


def _sized(image: np.ndarray, shape: tuple[int, int, int], fit: str, flow: bool) -> np.ndarray:
    if image.shape[:2] == shape[:2]:
        return image
    if fit == "resize":
        shrinks = image.shape[0] > shape[0] or image.shape[1] > shape[1]
        return cv2.resize(
            image, shape[1::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        )
    advice = (
        ": the run reads maps of the motion between two frames; give it two frames (--pair, "
        "predict_pair) or a video"
        if flow
        else ": give fit='resize' if it shows only the face, cropped as in training, or fit='face' "
        "to find the face"
    )
    raise Unusable(
        f"expected {shape[0]}x{shape[1]} pixels, found {image.shape[0]}x{image.shape[1]}{advice}"
    )
