"""Point files written byte by byte, independently of the readers."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

PCD_LETTER = {"f": "F", "i": "I", "u": "U"}


def scan(num_points: int = 500, seed: int = 0) -> np.ndarray:
    """(N, 5) float32 x, y, z, intensity of 0..1 and ring, as a turning sensor sees a flat road."""
    random = np.random.default_rng(seed)
    angle = np.linspace(0, 2 * np.pi, num_points, endpoint=False)
    ring = np.arange(num_points) % 32
    distance = 3 + 40 * random.random(num_points)
    x, y = distance * np.cos(angle), distance * np.sin(angle)
    z = -1.7 + 0.05 * random.standard_normal(num_points)
    return np.stack([x, y, z, random.random(num_points), ring], axis=1).astype(np.float32)


def pcd_header(
    fields: Sequence[tuple[str, str, int]], num_points: int, kind: str, newline: str = "\n"
) -> bytes:
    """The header for fields (name, NumPy type without byte order, count)."""
    lines = [
        "# .PCD v0.7 - Point Cloud Data file format",
        "VERSION 0.7",
        "FIELDS " + " ".join(name for name, _, _ in fields),
        "SIZE " + " ".join(kind[1] for _, kind, _ in fields),
        "TYPE " + " ".join(PCD_LETTER[kind[0]] for _, kind, _ in fields),
        "COUNT " + " ".join(str(count) for _, _, count in fields),
        f"WIDTH {num_points}",
        "HEIGHT 1",
        "VIEWPOINT 0 0 0 1 0 0 0",
        f"POINTS {num_points}",
        f"DATA {kind}",
    ]
    return "".join(line + newline for line in lines).encode()


def packed(values: Sequence[float], kind: str) -> bytes:
    """Numbers as little-endian bytes, by ``struct``."""
    letter = {"f4": "f", "f8": "d", "u1": "B", "u2": "H", "u4": "I", "u8": "Q"}
    letter |= {"i1": "b", "i2": "h", "i4": "i", "i8": "q"}
    whole = kind[0] != "f"
    return struct.pack(
        f"<{len(values)}{letter[kind]}", *[int(value) if whole else value for value in values]
    )


def lzf_literals(data: bytes) -> bytes:
    """An LZF stream that only copies: 32 bytes a command."""
    pieces = [data[start : start + 32] for start in range(0, len(data), 32)]
    return b"".join(bytes([len(piece) - 1]) + piece for piece in pieces)


def lzf_compress(data: bytes) -> bytes:
    """An LZF stream with copies of what was written, found by their three first bytes."""
    stream = bytearray()
    waiting = bytearray()
    last_place: dict[bytes, int] = {}
    position = 0
    while position < len(data):
        start = last_place.get(data[position : position + 3], -1)
        last_place[data[position : position + 3]] = position
        length = common_length(data, start, position)
        if start < 0 or position - start > 8192 or length < 3:
            waiting.append(data[position])
            position += 1
            continue
        stream += lzf_literals(bytes(waiting))
        waiting.clear()
        stream += lzf_copy(position - start - 1, length)
        position += length
    return bytes(stream + lzf_literals(bytes(waiting)))


def common_length(data: bytes, first: int, second: int) -> int:
    """How many bytes from ``first`` on equal those from ``second`` on, at most 264."""
    length = 0
    while length < 264 and second + length < len(data):
        if data[first + length] != data[second + length]:
            break
        length += 1
    return length


def lzf_copy(back: int, length: int) -> bytes:
    """The command that copies ``length`` bytes from ``back`` + 1 bytes ago."""
    if length - 2 < 7:
        return bytes([((length - 2) << 5) | (back >> 8), back & 255])
    return bytes([(7 << 5) | (back >> 8), length - 9, back & 255])
