"""LZF decompression: the compression of PCL's binary_compressed .pcd files.

The stream is a row of commands. A control byte below 32 is followed by that many bytes and one
more, which are copied. Any other control byte copies bytes that were already written: its three
high bits are the length less two (7: the next byte adds to it), its five low bits and the next byte
are how far back the copy starts, less one. A copy may overlap its own output.
"""

from __future__ import annotations

import numba
import numpy as np

DAMAGED = -1


def lzf_decompress(compressed: bytes | memoryview, size: int) -> np.ndarray | None:
    """(size,) uint8 the decompressed bytes; None if the stream does not make exactly so many."""
    source = np.frombuffer(compressed, np.uint8)
    output = np.empty(size, np.uint8)
    written = _decompress(source, output)
    return output if written == size else None


@numba.njit(cache=True)
def _decompress(source, output):
    """Fill ``output``; returns how many bytes were written, or DAMAGED."""
    position = 0
    written = 0
    while position < len(source):
        control = int(source[position])
        position += 1
        if control < 32:
            length = control + 1
            if position + length > len(source) or written + length > len(output):
                return DAMAGED
            for step in range(length):
                output[written + step] = source[position + step]
            position += length
            written += length
            continue
        length = (control >> 5) + 2
        if length == 9:
            if position >= len(source):
                return DAMAGED
            length += int(source[position])
            position += 1
        if position >= len(source):
            return DAMAGED
        start = written - ((control & 31) << 8) - int(source[position]) - 1
        position += 1
        if start < 0 or written + length > len(output):
            return DAMAGED
        # Byte by byte, because a copy may read what it has just written.
        for step in range(length):
            output[written + step] = output[start + step]
        written += length
    return written
