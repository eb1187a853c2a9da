"""A Matroska film with stamps of one's own: of the format only what a reader needs."""

import struct

import cv2


def write(path, frames):
    """`frames`: (milliseconds, RGB uint8 [H, W, 3]), ascending; each a picture of MJPEG."""
    height, width = frames[0][1].shape[:2]
    picture = element(0xE0, number(0xB0, width), number(0xBA, height))
    codec = element(0x86, b"V_MJPEG")
    track = element(0xAE, number(0xD7, 1), number(0x73C5, 1), number(0x83, 1), codec, picture)
    length = element(0x4489, struct.pack(">d", frames[-1][0] + 40))
    parts = [
        element(0x1549A966, number(0x2AD7B1, 1_000_000), length),
        element(0x1654AE6B, track),
    ]
    for stamp, pixels in frames:
        _, data = cv2.imencode(".jpg", pixels[..., ::-1])
        block = element(0xA3, b"\x81" + struct.pack(">hB", 0, 0x80) + data.tobytes())
        parts.append(element(0x1F43B675, number(0xE7, stamp), block))
    kind = element(0x4282, b"matroska")
    path.write_bytes(element(0x1A45DFA3, kind) + element(0x18538067, *parts))


def element(identifier, *content):
    body = b"".join(content)
    name = identifier.to_bytes((identifier.bit_length() + 7) // 8, "big")
    return name + (len(body) | 1 << 56).to_bytes(8, "big") + body


def number(identifier, value):
    return element(identifier, value.to_bytes(8, "big"))
