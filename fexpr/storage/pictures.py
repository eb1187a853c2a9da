"""Decodes image files to pixels of 8 bits. The only place where images are decoded: no image is
decoded before its size is known from the header.
"""

from __future__ import annotations

import io
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image, ImageOps

from fexpr.storage import bounded
from fexpr.storage.bounded import Unreadable

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Num, UInt8

MOST_PIXELS = 10**8  # 300 MB as RGB; cameras of 108 million pixels save 12 million by default
LARGE = 2**24  # pixels; larger images are decoded one at a time, whatever the number of threads
# formats that Pillow may recognise; OpenCV decodes all of these but AVIF
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF")
TIFF = (b"II*\0", b"MM\0*")  # the first bytes of such a file
UNKNOWN_TIFF = "is a TIFF of an unsupported kind, or is cut off: save it with 8 bits"
HEIF = (b"ftyphei", b"ftyphev", b"ftypmif", b"ftypmsf")  # from the fifth byte
AVIF = (b"ftypavif", b"ftypavis")  # from the fifth byte
_LARGE_IMAGE = threading.Lock()

# the limit here is stricter, and an error
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
# of metadata that are not read, such as a damaged EXIF block
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


def read(path: Path | str, mode: int) -> UInt8[np.ndarray, "H W *C"]:
    """Decodes an image file; `mode` is one of OpenCV's IMREAD_ values. Returns uint8 [H, W] or
    [H, W, C].

    Raises:
      Unreadable: the file cannot be read (bounded.open_file), or as in `decode`.
    """
    return decode(bounded.read_bytes(path, bounded.IMAGE_BYTES), mode)


def decode(data: bytes, mode: int) -> UInt8[np.ndarray, "H W *C"]:
    """Decodes the bytes of an image file. Arguments and result as in `read`.

    Raises:
      Unreadable: as in `decode_any_depth`, or they have more than 8 bits per channel.
    """
    image = decode_any_depth(data, mode)
    if image.dtype != np.uint8:
        raise Unreadable(
            f"has {8 * image.dtype.itemsize} bits per channel, with values from {image.min():g} to "
            f"{image.max():g}, expected 8 bits: save it with 8 bits"
        )
    return image


def decode_any_depth(data: bytes, mode: int) -> Num[np.ndarray, "H W *C"]:
    """Decodes the bytes of an image file, with as many bits per channel as it has.

    Raises:
      Unreadable: they are not an image, are cut off, or have more than MOST_PIXELS pixels.
    """
    width, height = size(data)
    if is_cut_off(data):
        raise Unreadable(f"is cut off ({len(data):,} bytes)")
    if width * height > LARGE:
        with _LARGE_IMAGE:
            image = _decoded(data, mode)
    else:
        image = _decoded(data, mode)
    if image is None and data[:4] in TIFF:
        raise Unreadable(UNKNOWN_TIFF)
    if image is None:
        raise Unreadable(f"is not an image, or is cut off ({len(data):,} bytes)")
    return image


def size(data: bytes) -> tuple[int, int]:
    """Width and height that the header of an image gives; no pixel is decoded.

    Raises:
      Unreadable: it is not an image, or has more than MOST_PIXELS pixels.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as header:
            width, height = header.size
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        width = height = MOST_PIXELS  # Pillow does not say how many
    except Exception as e:  # each of its plugins raises its own about damaged headers
        if data[:4] in TIFF:
            raise Unreadable(UNKNOWN_TIFF) from e
        if data[4:11] in HEIF:
            raise Unreadable("is HEIC, which is not read: save it as JPEG") from e
        raise Unreadable(f"is not an image, or is cut off ({len(data):,} bytes)") from e
    if width * height > MOST_PIXELS:
        raise Unreadable(f"has more than {MOST_PIXELS:,} pixels, the most that are read")
    return width, height


def is_cut_off(data: bytes) -> bool:
    """Whether the end is missing, which OpenCV would fill with grey: a JPEG's last scan is followed
    by an end marker, a PNG's last chunk is IEND.
    """
    if data[:2] == b"\xff\xd8":
        return data.rfind(b"\xff\xd9") <= data.rfind(b"\xff\xda")
    return data[:8] == b"\x89PNG\r\n\x1a\n" and b"IEND" not in data[-64:]


def is_lossless(path: Path) -> bool:
    """Whether the file is a PNG by its content, whatever its name. Raises Unreadable."""
    with bounded.open_file(path, bounded.IMAGE_BYTES) as file:
        return file.read(8) == b"\x89PNG\r\n\x1a\n"


def _decoded(data: bytes, mode: int) -> np.ndarray | None:
    # ANYDEPTH keeps 16 bits, which would otherwise be divided by 256 silently
    mode = mode if mode == cv2.IMREAD_UNCHANGED else mode | cv2.IMREAD_ANYDEPTH
    if data[4:12] in AVIF:  # some of OpenCV's wheels lack this decoder, others turn no picture
        return _decoded_avif(data, mode)
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), mode)
    except (cv2.error, MemoryError):
        return None


def _decoded_avif(data: bytes, mode: int) -> np.ndarray | None:
    """Like cv2.imdecode, by Pillow: upright, 8 bits per channel, without transparency."""
    turned = mode == cv2.IMREAD_UNCHANGED or mode & cv2.IMREAD_IGNORE_ORIENTATION
    try:
        with Image.open(io.BytesIO(data), formats=("AVIF",)) as file:
            pixels = np.asarray((file if turned else ImageOps.exif_transpose(file)).convert("RGB"))
    except (OSError, SyntaxError, ValueError):
        return None
    if mode != cv2.IMREAD_UNCHANGED and mode & cv2.IMREAD_COLOR_RGB:
        return pixels
    grey = mode != cv2.IMREAD_UNCHANGED and not mode & cv2.IMREAD_COLOR
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY if grey else cv2.COLOR_RGB2BGR)
