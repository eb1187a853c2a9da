"""48x48 grey faces and, beside each, a map of where to look: what the Deep-Emotion networks read.
Prepared once, in blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from fexpr.config import allowed
from fexpr.data import records
from fexpr.data.data_config import DataConfig
from fexpr.data.preparation import prepare
from fexpr.data.preparation.prepare import BadInput, read_image
from fexpr.errors import UserError
from fexpr.storage import bounded

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import UInt8

SIDE = 48
MAPS = allowed(DataConfig, "map")
# folders of existing maps, laid out like the faces' own
FOLDERS = {"saliency": "saliency", "landmarks": "landmarks"}
BLOCK = 512  # images in one record of a prepared set
Stack = tuple[Sequence[str], np.ndarray]  # ids and their images uint8 [n, 48, 48, C]


def choose_map(how: str, folder: Path) -> str:
    """What `config.data.map` resolves to for these data: 'none', 'folder' (read maps) or 'spectral'
    (compute them).

    'saliency' reads the release's folder saliency/ and computes spectral residuals if there is
    none; 'landmarks' reads landmarks/, as the position of a cropped face in the original picture,
    to which landmarks refer, is unknown.

    Raises:
      UserError: unknown value; landmark masks are required and missing.
    """
    if how not in MAPS:
        raise UserError(f"config.data.map is {how!r}", fix=f"set it to one of {', '.join(MAPS)}")
    has_maps = how in FOLDERS and bounded.is_folder(folder / FOLDERS[how])
    if how == "landmarks" and not has_maps:
        raise UserError(
            f"config.data.map is 'landmarks', but {folder} contains no landmark masks",
            [f"{folder} {prepare.contents(folder)}"],
            f"put masks into {folder / FOLDERS[how]}, with the file names of the faces, or set it "
            "to "
            "saliency or none",
        )
    return "folder" if has_maps else "none" if how == "none" else "spectral"


def computed_map(how: str) -> str:
    """The same as `choose_map`, for releases without published maps: 'none' or 'spectral'.

    Raises:
      UserError: unknown value; landmark masks, which can only be read from files.
    """
    if how not in MAPS[:3]:
        raise UserError(
            f"config.data.map is {how!r}",
            fix=f"for these data set it to one of {', '.join(MAPS[:3])}",
        )
    return "none" if how == "none" else "spectral"


def spectral_residual(face: UInt8[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W"]:
    """A saliency map uint8 [H, W] of a grey face uint8 [H, W], 0 to 255 from its least to its most
    salient pixel.

    Hou and Zhang, CVPR 2007, as OpenCV computes it: the log amplitude spectrum minus its smooth
    part.
    """
    _, found = cv2.saliency.StaticSaliencySpectralResidual.create().computeSaliency(face)
    low, high = float(found.min()), float(found.max())
    return np.round(255 * (found - low) / max(high - low, 1e-9)).astype(np.uint8)


def read_grey(path: Path) -> UInt8[np.ndarray, "48 48"]:
    """A square grey image uint8 [48, 48]; larger ones are shrunk by area.

    Raises:
      BadInput: it cannot be read, is not square, or is smaller.
    """
    image = read_image(path, cv2.IMREAD_GRAYSCALE)
    if image.shape[0] != image.shape[1] or image.shape[0] < SIDE:
        raise BadInput(
            f"{path}: {image.shape[1]}x{image.shape[0]} pixels, expected a square (48x48, or more)"
        )
    return (
        image
        if image.shape[0] == SIDE
        else cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    )


def with_map(
    face: UInt8[np.ndarray, "H W"], how: str, path: Path | None
) -> UInt8[np.ndarray, "H W channels"]:
    """The face [48, 48] with its map as a second channel, [48, 48, 2]; without one, [48, 48, 1].
    `how` comes from `choose_map`.

    Raises:
      BadInput: the map at `path` cannot be read.
    """
    if how == "none":
        return face[..., None]
    if how == "folder":
        if path is None:
            raise ValueError("a map of a folder needs its path")
        return np.stack([face, read_grey(path)], axis=-1)
    return np.stack([face, spectral_residual(face)], axis=-1)


def stored_strip(
    path: Path, make: Callable[[], UInt8[np.ndarray, "F 48 48 C"]]
) -> UInt8[np.ndarray, "F 48 48 C"]:
    """The faces `make()` of one clip, uint8 [F, 48, 48, C], C at most 3; kept as one image, made
    once however often work is interrupted.
    """

    def strip() -> np.ndarray:
        images = make()
        whole = np.zeros((*images.shape[:3], 3), np.uint8)
        whole[..., : images.shape[-1]] = images
        return whole.reshape(-1, SIDE, 3)

    return prepare.cached_png(path, strip).reshape(-1, SIDE, SIDE, 3)


def prepared(
    name: str, fingerprint: str, make: Callable[[Path], Iterable[Stack]], streamed: bool = False
) -> tuple[list[str], records.Images]:
    """Ids and images uint8 [N, 48, 48, C], read from the cache or made by `make(folder)`, which may
    keep finished items in `folder`.

    Args:
      streamed: the images are not read but stay on the disk, a record each. Preparing holds a stack
          at a time in any case.
    """
    folder = prepare.prepared_folder(name, fingerprint, lambda kept: _rows(make(kept)))
    if streamed:
        single = folder.with_name(prepare.IMAGES)
        with prepare.exclusive_lock(folder.parent):
            if not bounded.is_folder(single):
                # left by a killed process
                prepare.remove(folder.parent.glob(f".{single.name}.*"))
                records.write(single, _stacks(folder))
        return records.read(single)
    stacks = list(_stacks(folder))
    return [id_ for ids, _ in stacks for id_ in ids], np.concatenate(
        [images for _, images in stacks]
    )


def _rows(stacks: Iterable[Stack]) -> Iterator[dict[str, np.ndarray | str]]:
    """Yields records of BLOCK images each; the last one is padded with zeros."""
    ids, images = [], None
    for names, more in stacks:
        ids, images = ids + list(names), more if images is None else np.concatenate([images, more])
        while len(ids) >= BLOCK:
            yield {"images": images[:BLOCK], "ids": "\n".join(ids[:BLOCK])}
            ids, images = ids[BLOCK:], images[BLOCK:]
    if ids and images is not None:
        block = np.zeros((BLOCK, *images.shape[1:]), np.uint8)
        block[: len(ids)] = images
        yield {"images": block, "ids": "\n".join(ids)}


def _stacks(folder: Path) -> Iterator[Stack]:
    from fexpr.data.preparation import builder  # TFDS takes half a second to import

    for row in builder.each(folder):
        ids = str(row["ids"]).split("\n")
        yield ids, np.asarray(row["images"])[: len(ids)]
