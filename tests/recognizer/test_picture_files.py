"""What cameras, phones and scanners write is decoded to 8 bits, or refused with a reason."""

import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from fexpr.errors import UserError
from fexpr.recognizer import picture_files
from fexpr.recognizer.picture_files import Pictures, Unusable


@pytest.fixture(scope="module")
def pixels():
    """Smooth colours, so that lossy formats keep them."""
    coarse = np.random.default_rng(0).integers(40, 216, (3, 4, 3), np.uint8)
    return cv2.resize(coarse, (64, 48), interpolation=cv2.INTER_CUBIC)


def test_formats(pixels, tmp_path):
    image = Image.fromarray(pixels)
    for name, options in (
        ("a.png", {}),
        ("a.jpg", {"quality": 98}),
        ("a.webp", {"lossless": True}),
        ("a.tif", {}),
        ("a.bmp", {}),
        ("a.ppm", {}),
    ):
        image.save(tmp_path / name, **options)
        found = picture_files.read(tmp_path / name)
        np.testing.assert_allclose(found.astype(int), pixels, atol=12, err_msg=name)


def test_transparency_ink_and_grey(pixels, tmp_path):
    image = Image.fromarray(pixels)
    with_alpha = image.copy()
    with_alpha.putalpha(200)
    with_alpha.save(tmp_path / "alpha.png")
    image.convert("CMYK").save(tmp_path / "ink.jpg", quality=98)
    image.convert("L").save(tmp_path / "grey.png")
    np.testing.assert_array_equal(picture_files.read(tmp_path / "alpha.png"), pixels)
    np.testing.assert_allclose(
        picture_files.read(tmp_path / "ink.jpg").astype(int), pixels, atol=16
    )
    grey = np.asarray(image.convert("L"))
    np.testing.assert_array_equal(picture_files.read(tmp_path / "grey.png", 1), grey)
    np.testing.assert_array_equal(picture_files.read(tmp_path / "grey.png")[..., 1], grey)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_upright_as_their_exif_data_say(orientation, pixels, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=98, exif=exif)
    with Image.open(tmp_path / "a.jpg") as stored:
        from PIL import ImageOps

        expected = np.asarray(ImageOps.exif_transpose(stored))
    found = picture_files.read(tmp_path / "a.jpg")
    np.testing.assert_allclose(found.astype(int), expected, atol=12)


@pytest.mark.parametrize(("bits", "shift"), [(8, 0), (10, 2), (12, 4), (16, 8)])
def test_sixteen_bits_keep_what_the_values_use(bits, shift, pixels, tmp_path):
    grey = pixels[..., 0].astype(np.uint16) << shift
    grey[0, 0] = 2**bits - 1
    cv2.imwrite(str(tmp_path / "a.png"), grey)
    for channels in (1, 3):
        found = picture_files.read(tmp_path / "a.png", channels)
        assert found.dtype == np.uint8
        found = found if channels == 1 else found[..., 0]
        np.testing.assert_array_equal(found.ravel()[1:], pixels[..., 0].ravel()[1:])


def png_of(width, height):
    """A PNG whose header promises so many pixels."""

    def chunk(kind, data):
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b"")


def test_what_cannot_be_read(pixels, tmp_path):
    _, jpeg = cv2.imencode(".jpg", pixels)
    for name, data, words in (
        ("cut.jpg", jpeg.tobytes()[:-200], "cut off"),
        ("text.png", b"hello", r"not an image.*\(5 bytes\)"),
        ("empty.png", b"", r"\(0 bytes\)"),
        ("huge.png", png_of(40_000, 30_000), "more than 100,000,000 pixels"),
        ("vast.png", png_of(400_000, 300_000), "more than 100,000,000 pixels"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(Unusable, match=words):
            picture_files.read(tmp_path / name)
    with pytest.raises(Unusable, match="folder"):
        picture_files.read(tmp_path)
    cv2.imwrite(str(tmp_path / "float.tif"), pixels.astype(np.float32))
    with pytest.raises(Unusable, match="TIFF"):
        picture_files.read(tmp_path / "float.tif")


def test_folders_are_searched_below_and_what_is_passed_over_is_counted(tmp_path):
    for name in (
        "b.JFIF",
        "a.jpg",
        "c/z.heic",
        "c/d/y.AVIF",
        "c/notes.txt",
        "Thumbs.db",
        "._a.jpg",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    pictures = Pictures([tmp_path, tmp_path / "c" / "notes.txt"])
    assert [path.relative_to(tmp_path).as_posix() for path in pictures] == [
        "a.jpg",
        "b.JFIF",
        "c/z.heic",
        "c/d/y.AVIF",
        "c/notes.txt",  # named by the user
    ]
    assert dict(pictures.passed_over) == {".txt": 1, ".db": 1, ".jpg": 1}
    with pytest.raises(UserError, match=r"gone\.jpg"):
        Pictures([tmp_path / "gone.jpg"])
