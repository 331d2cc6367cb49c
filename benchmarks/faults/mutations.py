"""Damage to files: of their bytes, and of the values in structured ones. Drawn from a seed."""

from __future__ import annotations

import copy
import struct
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch

Random: TypeAlias = np.random.Generator
MAX_CHANGES = 4
WORDS = [
    b"nan",
    b"-inf",
    b"1e400",
    b"-1",
    b"99999999999999999999",
    b"\0",
    b"\xff\xfe",
    b"",
    b"\r\n",
]
WORDS += [" \t", "é", "漢", "²", "٣", "\u202e", "a" * 5000, "../../x", "[[[[", "{", '"', "'", ":"]
NUMBERS = [0, 1, -1, 255, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1]
VALUES: list[Any] = [
    *(None, True, "", "x", "../../x", "/x", "a\0b", "é\ud800", "x" * 5000, b"x", 0, -1, 1.5, 2**40),
    *(10**400, 1e30, 1e300, -0.0, float("nan"), float("inf"), [], {}, (), [[]], [[1, 2], [3]]),
    *({"a": None}, {1: 2}, ["x", 1, None], np.zeros(0), np.zeros((2, 3)), np.float64("nan")),
    *(np.array("x"), np.array([None, "x"], dtype=object), np.int8(-1), np.zeros((1, 1, 7))),
]


def damaged_bytes(content: bytes, random: Random) -> bytes:
    """The content with one to four changes."""
    for _ in range(random.integers(1, MAX_CHANGES + 1)):
        change = BYTE_CHANGES[random.integers(len(BYTE_CHANGES))]
        content = change(content, random)
    return content


def _place(content: bytes, random: Random) -> int:
    """A place, half of the time in the first 400 bytes, where headers are."""
    end = len(content) if random.random() < 0.5 else min(len(content), 400)
    return int(random.integers(end + 1))


def _cut(content: bytes, random: Random) -> bytes:
    return content[: _place(content, random)]


def _flip(content: bytes, random: Random) -> bytes:
    place = _place(content, random)
    if place >= len(content):
        return content
    flipped = content[place] ^ (1 << int(random.integers(8)))
    return content[:place] + bytes([flipped]) + content[place + 1 :]


def _repeat(content: bytes, random: Random) -> bytes:
    place = _place(content, random)
    piece = content[place : place + int(random.integers(1, 200))]
    return content[:place] + piece * int(random.integers(2, 5)) + content[place:]


def _leave_out(content: bytes, random: Random) -> bytes:
    place = _place(content, random)
    return content[:place] + content[place + int(random.integers(1, 60)) :]


def _insert(content: bytes, random: Random) -> bytes:
    word = WORDS[random.integers(len(WORDS))]
    place = _place(content, random)
    data = word if isinstance(word, bytes) else word.encode()
    return content[:place] + data + content[place:]


def _overwrite_number(content: bytes, random: Random) -> bytes:
    """Another length or count where a binary header may have one."""
    kind = ["<H", "<I", "<Q", ">I"][random.integers(4)]
    size = struct.calcsize(kind)
    place = _place(content, random)
    number = NUMBERS[random.integers(len(NUMBERS))] % 2 ** (8 * size)
    return content[:place] + struct.pack(kind, number) + content[place + size :]


def _other_digits(content: bytes, random: Random) -> bytes:
    """Another number in the place of one that is written as text."""
    digits = [place for place, byte in enumerate(content[:4000]) if 48 <= byte <= 57]
    if not digits:
        return _flip(content, random)
    begin = digits[random.integers(len(digits))]
    end = begin
    while end < len(content) and 48 <= content[end] <= 57:
        end += 1
    number = str(NUMBERS[random.integers(len(NUMBERS))]).encode()
    return content[:begin] + number + content[end:]


BYTE_CHANGES: list[Callable[[bytes, Random], bytes]] = [
    *(_cut, _flip, _flip, _repeat, _leave_out, _insert, _overwrite_number, _other_digits)
]


def damaged_structure(content: Any, random: Random) -> Any:
    """A copy with one to three values that are missing, repeated, or of another kind."""
    content = copy.deepcopy(content)
    for _ in range(random.integers(1, 4)):
        holders = list(_holders(content))
        if not holders:
            return _other_value(content, random)
        holder = holders[random.integers(len(holders))]
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        _change(holder, keys[random.integers(len(keys))], random)
    return content


def _change(holder: Any, key: Any, random: Random) -> None:
    action = random.random()
    if action < 0.15:
        del holder[key]
    elif action < 0.25 and isinstance(holder, list):
        holder.insert(key, holder[key])
    elif action < 0.3 and isinstance(holder, dict):
        holder[_other_key(random)] = holder.pop(key)
    else:
        holder[key] = _other_value(holder[key], random)


def _holders(value: Any) -> Any:
    """All dicts and lists with entries."""
    if isinstance(value, (dict, list)) and value:
        yield value
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _holders(inner)


def _other_key(random: Random) -> Any:
    return ["x", 1, None, -1.5, "é", ("a", 1), b"x"][random.integers(7)]


def _other_value(value: Any, random: Random) -> Any:
    """Something else: of another kind, or the same array with other values, shape or type."""
    if isinstance(value, torch.Tensor) and random.random() < 0.7:
        return _other_tensor(value, random)
    if isinstance(value, np.ndarray) and random.random() < 0.7:
        return _other_array(value, random)
    if isinstance(value, str) and random.random() < 0.5:
        data = damaged_bytes(value.encode(errors="replace"), random)
        return data.decode(errors="replace")
    return copy.deepcopy(VALUES[random.integers(len(VALUES))])


def _other_array(value: np.ndarray, random: Random) -> Any:
    choice = random.integers(8)
    if choice == 0:
        return value[:-1] if value.ndim else value.reshape(1)
    if choice == 1:
        return np.concatenate([value, value]) if value.ndim else [value.item()]
    if choice == 2:
        return value.reshape(-1)
    if choice == 3:
        return value.reshape(1, *value.shape)
    if choice == 4:
        return value.tolist()
    if choice == 5:
        return value.astype([object, "U8", "S4", "c8", "f2", "?", ">f8"][random.integers(7)])
    if choice == 6:
        return value.T
    changed = value.copy()
    if changed.size and changed.dtype.kind in "fiu":
        with np.errstate(all="ignore"):
            bad = np.array([np.nan, np.inf, 1e30, -1, 2**31])[random.integers(5)]
            changed.flat[random.integers(changed.size)] = bad.astype(changed.dtype)
    return changed


def _other_tensor(value: torch.Tensor, random: Random) -> Any:
    choice = random.integers(9)
    if choice == 0:
        return value.to(torch.complex64)
    if choice == 1:
        return value.reshape(-1).to_sparse()
    if choice == 2:
        return value.to("meta")
    if choice == 3:
        return value.reshape(-1)[:-1]
    if choice == 4:
        return torch.quantize_per_tensor(value.float(), 0.1, 0, torch.qint8)
    if choice == 5:
        return value.to(torch.bool)
    if choice == 6:
        return value.reshape(1, *value.shape)
    if choice == 7:
        return torch.full_like(
            value.float(), [float("nan"), 1e30, float("inf")][random.integers(3)]
        )
    return value.double()
