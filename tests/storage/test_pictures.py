"""Images whose headers lie, that are cut off, or that hold more than 8 bits: refused, and no pixel of
a bomb is decoded."""

import io
import struct
import tracemalloc
import warnings
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, features

from fexpr.storage import pictures
from fexpr.storage.bounded import Unreadable

FACE = (np.arange(48 * 48).reshape(48, 48) % 251).astype(np.uint8)


def encoded(kind, image=FACE):
    return cv2.imencode(kind, image)[1].tobytes()


def png(width, height, data=b"\0" * 99, bits=8, colour=2):
    def chunk(name, body):
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize("kind", [".png", ".jpg", ".bmp", ".webp", ".tiff", ".pgm"])
def test_whole_images_are_read_as_opencv_reads_them(kind, tmp_path):
    path = tmp_path / f"face{kind}"
    path.write_bytes(encoded(kind))
    found = pictures.read(path, cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(found, cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
    assert pictures.read(path, cv2.IMREAD_COLOR_RGB).shape == (48, 48, 3)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is not an image"),
        (b"hello", "is not an image"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC.*JPEG"),
        (png(0, 0), "not an image"),
        (png(30_000, 30_000), "more than 100,000,000 pixels"),
        (png(65_535, 65_535), "more than 100,000,000 pixels"),
        (png(2**31 - 1, 1), "more than 100,000,000 pixels"),
        (b"P6 200000 200000 255\n" + bytes(10), "more than 100,000,000 pixels"),
        (b"PF\n100000 100000\n-1.0\n" + bytes(9), "more than|not an image"),
        (
            b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 100000 +X 100000\n" + bytes(9),
            "not an image",
        ),
        (encoded(".png")[:150], "cut off"),
        (encoded(".jpg")[:700], "cut off"),
        (encoded(".png", FACE.astype(np.uint16)), "16 bits.* 0 to 250"),
        (
            encoded(".png", FACE.astype(np.uint16) * 257),
            "16 bits.* 0 to 64250",
        ),
        (encoded(".tiff", FACE.astype(np.float32)), "32 bits|TIFF"),
    ],
)
@pytest.mark.parametrize("mode", [cv2.IMREAD_GRAYSCALE, cv2.IMREAD_COLOR_RGB, cv2.IMREAD_UNCHANGED])
def test_what_cannot_be_used_is_refused(data, why, mode):
    with pytest.raises(Unreadable, match=why):
        pictures.decode(data, mode)


@pytest.mark.skipif(not features.check("avif"), reason="Pillow was built without it")
def test_avif_has_the_channels_that_are_asked_for():
    colours = np.stack([FACE, 255 - FACE, FACE // 2], axis=-1)
    file = io.BytesIO()
    Image.fromarray(colours).save(file, "AVIF", quality=100, subsampling="4:4:4")
    for mode, expected in (
        (cv2.IMREAD_COLOR_RGB, colours),
        (cv2.IMREAD_COLOR, colours[..., ::-1]),
        (cv2.IMREAD_UNCHANGED, colours[..., ::-1]),
        (cv2.IMREAD_GRAYSCALE, cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY)),
    ):
        found = pictures.decode(file.getvalue(), mode)
        np.testing.assert_allclose(found.astype(int), expected, atol=12)
    with pytest.raises(Unreadable, match=r"not an image.* cut off"):
        pictures.decode(file.getvalue()[:-100], cv2.IMREAD_COLOR)


def test_of_a_bomb_no_pixel_is_decoded():
    bomb = png(20_000, 20_000, bytes(20_000 * 3 + 1))
    tracemalloc.start()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(Unreadable, match="more than"):
            pictures.decode(bomb, cv2.IMREAD_COLOR)
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


def test_a_photo_is_upright():
    from PIL import Image

    photo = Image.fromarray(np.repeat(FACE[:24, :, None], 3, 2))
    exif = photo.getexif()
    exif[0x0112] = 6  # a quarter turn
    import io

    stream = io.BytesIO()
    photo.save(stream, "JPEG", exif=exif)
    assert pictures.decode(stream.getvalue(), cv2.IMREAD_COLOR).shape == (48, 24, 3)


@pytest.mark.skipif(not features.check("avif"), reason="Pillow was built without it")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_avif_is_upright_as_its_exif_data_say(orientation):
    """Like the other formats, which OpenCV turns."""
    image = np.zeros((64, 64, 3), np.uint8)
    image[:16, :32] = 255  # upper left
    about, as_png, as_avif = Image.Exif(), io.BytesIO(), io.BytesIO()
    about[0x0112] = orientation
    Image.fromarray(image).save(as_png, "PNG", exif=about)
    Image.fromarray(image).save(as_avif, "AVIF", exif=about, quality=100)
    for mode in (cv2.IMREAD_COLOR, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION):
        other, found = (pictures.decode(f.getvalue(), mode) for f in (as_png, as_avif))
        np.testing.assert_allclose(found.astype(int), other, atol=40)


def test_damaged_exif_data_are_not_warned_of(recwarn):
    damaged = b"Exif\0\0II*\0\x08\0\0\0\x09\0\x12\x01"
    file = io.BytesIO()
    Image.fromarray(FACE).save(file, "PNG", exif=damaged)
    assert pictures.decode(file.getvalue(), cv2.IMREAD_GRAYSCALE).shape == FACE.shape
    assert not recwarn.list
