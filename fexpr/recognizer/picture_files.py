"""Picture files: finding them below folders, and decoding what cameras and scanners write."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from fexpr.errors import UserError
from fexpr.storage import bounded, pictures
from fexpr.storage.bounded import Unreadable

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Shaped, UInt8

# files that are read; some only where OpenCV was built with their decoder
SUFFIXES = frozenset(
    [
        ".avif",
        ".bmp",
        ".dib",
        ".gif",
        ".heic",
        ".heif",
        ".jfif",
        ".jp2",
        ".jpe",
        ".jpeg",
        ".jpg",
        ".pbm",
        ".pgm",
        ".png",
        ".pnm",
        ".ppm",
        ".tif",
        ".tiff",
        ".webp",
    ]
)


class Unusable(Exception):
    """A picture cannot be used; the text says why."""


class Pictures:
    """The pictures among files and below folders, by name; a folder is read while it is iterated.

    Attributes:
      passed_over: suffixes of files that are not pictures, and of folders that are not searched,
          with their number.

    Raises:
      UserError: files or folders that do not exist: all of them.
    """

    def __init__(self, given: Sequence[str | Path]):
        self._given = [Path(path) for path in given]
        self.passed_over: Counter[str] = Counter()
        missing = [f"{path} does not exist" for path in self._given if not bounded.exists(path)]
        if missing:
            raise UserError(
                "some of these pictures do not exist",
                missing,
                fix="name picture files, or folders of them",
            )

    def __iter__(self) -> Iterator[Path]:
        for path in self._given:
            if not path.is_dir():
                yield path  # a file that the user names is read, whatever its suffix
                continue
            for folder, below, names in os.walk(path, onerror=self._cannot_list):
                below.sort()
                links = sum(os.path.islink(os.path.join(folder, name)) for name in below)
                if links:  # a link may lead back to where it is
                    self.passed_over["links to folders"] += links
                for name in sorted(names):
                    if not self._is_picture(name):
                        self.passed_over[Path(name).suffix.lower() or name] += 1
                    else:
                        yield Path(folder, name)

    def _cannot_list(self, error: OSError) -> None:
        del error
        self.passed_over["folders that cannot be read"] += 1

    @staticmethod
    def _is_picture(name: str) -> bool:
        # macOS keeps attributes of a.jpg in ._a.jpg
        return Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")


def read(path: Path, channels: int = 3) -> UInt8[np.ndarray, "H W *C"]:
    """The pixels of a picture, upright as its EXIF data say: uint8 [H, W] (`channels` 1) or RGB
    [H, W, 3].

    Transparency is left out; of more than 8 bits per channel, the 8 highest that the values use are
    kept.

    Raises:
      Unusable: as storage/pictures.py says.
    """
    mode = cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR
    image = eight_bits(decode(path, mode | cv2.IMREAD_ANYDEPTH))
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if image.ndim == 3 else image


def decode(path: Path, mode: int) -> Shaped[np.ndarray, "H W *C"]:
    """The pixels as OpenCV decodes them; `mode`: of cv2.imdecode. Errors as in `read`."""
    try:
        return pictures.decode_any_depth(bounded.read_bytes(path, bounded.IMAGE_BYTES), mode)
    except Unreadable as e:
        raise Unusable(str(e)) from e


def eight_bits(image: Shaped[np.ndarray, "H W *C"]) -> UInt8[np.ndarray, "H W *C"]:
    """Converts values to uint8 of the same shape: of 16 bits, the 8 highest that the values use, as
    cameras write 8, 10 or 12 bits into files of 16.

    Raises:
      Unusable: values that are not whole numbers.
    """
    if image.dtype == np.uint8:
        return image
    if image.dtype != np.uint16:
        raise Unusable(f"holds {image.dtype} values, expected 8 or 16 bits per channel")
    top = int(image.max())
    bits = next(bits for bits in (8, 10, 12, 14, 16) if top < 2**bits)
    return (image >> (bits - 8)).astype(np.uint8)
