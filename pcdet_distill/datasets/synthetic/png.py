"""A stand-in for camera 2's image: sky, street and coloured rectangles, as a small PNG.

No detector here reads it. A KITTI folder has one, and its header holds the size of the image.
"""

from __future__ import annotations

import functools
import struct
import zlib

import numpy as np

from .sensors.camera import IMAGE_HEIGHT, IMAGE_WIDTH

# RGB colours.
SKY = (170, 195, 220)
STREET = (95, 95, 100)
COLOURS = {
    "Car": (60, 90, 160),
    "Van": (90, 110, 150),
    "Truck": (120, 100, 80),
    "Pedestrian": (190, 90, 70),
    "Person_sitting": (170, 110, 90),
    "Cyclist": (90, 150, 80),
}
HORIZON_ROW = 175

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
BITS_PER_CHANNEL = 8
COLOUR_TYPE_RGB = 2
FILTER_UP = 2  # a row is stored as its difference from the row above


def sketch(label_lines: list[str]) -> np.ndarray:
    """(375, 1242, 3) uint8 image with a rectangle for each labelled object, the nearest on top."""
    image = _background().copy()
    for line in reversed(label_lines):
        fields = line.split()
        label = fields[0]
        if label in COLOURS:
            left, top, right, bottom = (round(float(value)) for value in fields[4:8])
            image[top : bottom + 1, left : right + 1] = COLOURS[label]
    return image


@functools.lru_cache(maxsize=1)
def _background() -> np.ndarray:
    image = np.empty((IMAGE_HEIGHT, IMAGE_WIDTH, 3), dtype=np.uint8)
    image[:HORIZON_ROW] = SKY
    image[HORIZON_ROW:] = STREET
    return image


def png_bytes(image: np.ndarray) -> bytes:
    """Encode (H, W, 3) uint8 as an RGB PNG."""
    height, width, _ = image.shape
    rows = image.reshape(height, width * 3)
    filtered = np.empty((height, 1 + width * 3), dtype=np.uint8)
    filtered[:, 0] = FILTER_UP
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    compression, filtering, interlacing = 0, 0, 0  # the only, the only, none
    header = struct.pack(
        ">IIBBBBB",
        width,
        height,
        BITS_PER_CHANNEL,
        COLOUR_TYPE_RGB,
        compression,
        filtering,
        interlacing,
    )
    pixels = zlib.compress(filtered.data, level=1)
    chunks = _chunk(b"IHDR", header) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")
    return PNG_SIGNATURE + chunks


def _chunk(kind: bytes, data: bytes) -> bytes:
    """Length, kind, data and checksum, as the PNG format stores them."""
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)
