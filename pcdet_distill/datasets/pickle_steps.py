"""A look at the steps of a pickle before it is loaded: is each one as long as it says?

Python's unpickler makes a table as long as the highest number that a step stores a value under. So
six bytes can ask for 64 GB. An honest pickle numbers its values one by one, and has fewer of them
than bytes. Nothing is executed here.
"""

from __future__ import annotations

import mmap
import pickle
import pickletools
from typing import BinaryIO

# What follows the byte of a step: so many bytes, or one of these.
LINE = 255
TWO_LINES = 254
LENGTH_1 = 253
LENGTH_4 = 252
LENGTH_8 = 251
NO_STEP = 250
LENGTH_BYTES = {LENGTH_1: 1, LENGTH_4: 4, LENGTH_8: 8}
OF_PICKLETOOLS = {
    pickletools.UP_TO_NEWLINE: LINE,
    pickletools.TAKEN_FROM_ARGUMENT1: LENGTH_1,
    pickletools.TAKEN_FROM_ARGUMENT4: LENGTH_4,
    pickletools.TAKEN_FROM_ARGUMENT4U: LENGTH_4,
    pickletools.TAKEN_FROM_ARGUMENT8U: LENGTH_8,
}
STOP = ord(".")
STORE_NUMBERED = ord("r")  # the number has four bytes
STORE_WRITTEN = ord("p")  # the number is a line of text


def _sizes() -> bytes:
    """For every byte, what follows it when it is a step."""
    sizes = [NO_STEP] * 256
    for step in pickletools.opcodes:
        size = step.arg.n if step.arg else 0
        sizes[ord(step.code)] = OF_PICKLETOOLS.get(size, size)
    for code in b"ic":  # module and name
        sizes[code] = TWO_LINES
    return bytes(sizes)


SIZES = _sizes()
LONGEST_FIXED = 8


def check_steps(file: BinaryIO) -> None:
    """Raise an UnpicklingError for a pickle that asks for more memory than it has bytes."""
    try:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError:  # an empty file, of which the unpickler says so
        return
    with content:
        _check(content)


def _check(content: mmap.mmap) -> None:
    # A loop of its own for each byte of 100 million: pickletools takes twenty times as long.
    end = len(content)
    place = 0
    while place < end:
        code = content[place]
        size = SIZES[code]
        place += 1
        if code == STORE_NUMBERED:
            _check_number(int.from_bytes(content[place : place + 4], "little"), end)
        if size <= LONGEST_FIXED:
            place += size
            if code == STOP:
                return
        elif size in LENGTH_BYTES:
            length_bytes = LENGTH_BYTES[size]
            length = int.from_bytes(content[place : place + length_bytes], "little")
            place += length_bytes + length
        else:
            place = _after_lines(content, place, code, size)
    raise pickle.UnpicklingError("it ends within a step")


def _after_lines(content: mmap.mmap, place: int, code: int, size: int) -> int:
    """The place after the lines of a step of text."""
    if size == NO_STEP:
        raise pickle.UnpicklingError(f"it has no step {code:#x}")
    for _ in range(2 if size == TWO_LINES else 1):
        line_end = content.find(b"\n", place)
        if line_end < 0:
            raise pickle.UnpicklingError("it ends within a step")
        if code == STORE_WRITTEN and line_end - place > len(str(len(content))):
            raise pickle.UnpicklingError("it stores more values than it has bytes")
        if code == STORE_WRITTEN:
            _check_number(int(content[place:line_end]), len(content))
        place = line_end + 1
    return place


def _check_number(number: int, end: int) -> None:
    if number > end:
        raise pickle.UnpicklingError("it stores more values than it has bytes")
