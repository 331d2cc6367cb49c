"""The stand-in for camera 2's picture: sky, street and coloured rectangles, as a PNG of a few kilobytes.

No detector here reads it. It is there because a KITTI folder has one and because its header tells the image size.
"""

from __future__ import annotations

import functools
import struct
import zlib

import numpy as np

from .camera import IMAGE_HEIGHT, IMAGE_WIDTH

SKY, STREET, HORIZON = (170, 195, 220), (95, 95, 100), 175
COLOURS = {
    "Car": (60, 90, 160),
    "Van": (90, 110, 150),
    "Truck": (120, 100, 80),
    "Pedestrian": (190, 90, 70),
    "Person_sitting": (170, 110, 90),
    "Cyclist": (90, 150, 80),
}


def sketch(label_lines: list[str]) -> np.ndarray:
    """An image ``(375, 1242, 3)`` uint8 with each labelled object as a rectangle, the nearest on top."""
    image = _background().copy()
    for line in reversed(label_lines):
        fields = line.split()
        if fields[0] in COLOURS:
            left, top, right, bottom = (round(float(value)) for value in fields[4:8])
            image[top : bottom + 1, left : right + 1] = COLOURS[fields[0]]
    return image


@functools.lru_cache(maxsize=1)
def _background() -> np.ndarray:
    image = np.empty((IMAGE_HEIGHT, IMAGE_WIDTH, 3), dtype=np.uint8)
    image[:HORIZON], image[HORIZON:] = SKY, STREET
    return image


def png_bytes(image: np.ndarray) -> bytes:
    """Encode ``(H, W, 3)`` uint8 as an RGB PNG; every row is stored as its difference from the row above."""
    height, width, _ = image.shape
    rows = image.reshape(height, width * 3)
    filtered = np.empty((height, 1 + width * 3), dtype=np.uint8)
    filtered[:, 0] = 2
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(filtered.data, level=1)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", body)
        + _chunk(b"IEND", b"")
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
