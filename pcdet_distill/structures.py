"""What a file holds, declared once: names, numbers, texts, lists, and how they lie in each other.

    BOXES = Structure(name=Texts("M"), boxes=Numbers("M", AtLeast(7)))
    str(misfit_of({"name": ["Car"], "boxes": np.zeros((2, 7))}, BOXES))
    # "its boxes is float64 (2, 7), expected finite numbers (M, 7 or more), M = 1 as in name"

A letter in a shape is one size in all entries of its structure. An array without rows fits every
shape whose first size is a letter: programs write ``(0,)`` for no boxes. Numbers fit a float32.
Whoever reads the values later may rely on them and needs no check of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

LARGEST = float(np.finfo(np.float32).max)
MODERATE = 1e30  # a sum of squares that a float32 can hold
MAX_LIST_NUMBERS = 10_000_000  # in nested lists, which may repeat each other
MAX_SHOWN = 40  # characters of a value in a message

Sizes = dict[str, tuple[int, str]]  # of each letter of a shape: its size, and the key that has it


@dataclass(frozen=True)
class AtLeast:
    """A size of a shape with a lower bound: boxes have 7 or more columns."""

    size: int


@dataclass(frozen=True)
class Misfit:
    """A value that is not what was declared.

    Attributes:
        path: the keys that lead to it, such as ``annos.bbox``; empty for the value itself.
        found: what stands there, None where the key is missing.
        expected: what was declared, in words.
    """

    path: str
    found: str | None
    expected: str

    def below(self, key: str) -> Misfit:
        """The same misfit, seen from the structure that holds it under ``key``."""
        path = f"{key}.{self.path}" if self.path else key
        return Misfit(path.replace(".[", "["), self.found, self.expected)

    def __str__(self) -> str:
        if self.found is None:
            return f"it lacks {self.path} ({self.expected})"
        if not self.path:
            return f"but {self.found}, expected {self.expected}"
        return f"its {self.path} is {self.found}, expected {self.expected}"


class Kind(Protocol):
    """What a value can be."""

    @property
    def words(self) -> str:
        """What is expected, in words."""

    def misfit(self, value: Any, checked: Checked) -> Misfit | None:
        """What does not fit; None for a good value."""


class Checked:
    """What is known while one file is checked.

    Args:
        limit: how many values may be looked at. Each takes a byte of the file or more, unless the
            file refers to one list a million times.

    Attributes:
        sizes: those of the letters of the present structure.
        key: the present key of that structure.
        left: what remains of ``limit``.
        known: the containers that were checked already, with the kind that they fit. Infos of
            nuScenes share their sweeps.
    """

    def __init__(self, limit: float = math.inf) -> None:
        self.sizes: Sizes = {}
        self.key = ""
        self.left = limit
        self.known: dict[tuple[int, int], Any] = {}

    def count(self, values: int) -> Misfit | None:
        """Count values that are looked at; a misfit when they are more than the file can hold."""
        self.left -= values
        return None if self.left >= 0 else Misfit("", "repeated too often", "fewer repetitions")

    def is_new(self, value: object, kind: Kind) -> bool:
        """Whether ``value`` was not checked before; it is remembered, so that its id stays its."""
        mark = (id(value), id(kind))
        if mark in self.known:
            return False
        self.known[mark] = value
        return True


def misfit_of(value: object, kind: Kind, checked: Checked | None = None) -> Misfit | None:
    """What of ``value`` does not fit ``kind``; ``checked`` joins the values of one file."""
    if isinstance(kind, Structure) and not isinstance(value, dict):
        return Misfit("", f"a {type(value).__name__}", kind.words)
    return kind.misfit(value, checked or Checked())


# --- single values --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Number:
    """A finite number between two others; ``whole`` for one without decimals."""

    least: float = -LARGEST
    most: float = LARGEST
    whole: bool = False

    @property
    def words(self) -> str:
        """``a whole number from 0 up``."""
        kind = "a whole number" if self.whole else "a finite number"
        if self.least == -LARGEST:
            return kind
        upper = f" to {self.most:g}" if self.most < LARGEST else " up"
        return f"{kind} from {self.least:g}{upper}"

    def misfit(self, value: Any, checked: Checked) -> Misfit | None:
        """Refuses bools, text, NaN, and what lies outside."""
        allowed = (int, np.integer) if self.whole else (int, float, np.integer, np.floating)
        is_number = isinstance(value, allowed) and not isinstance(value, bool)
        if is_number and self.least <= value <= self.most:
            return None
        beyond = is_number and LARGEST < abs(value) < math.inf
        return Misfit("", shown(value) + " (beyond float32)" * beyond, self.words)


@dataclass(frozen=True)
class Text:
    """A text that is not empty, and can be shown and written in UTF-8."""

    words: str = "a text"

    def misfit(self, value: Any, checked: Checked) -> Misfit | None:
        """Refuses what is no text."""
        if isinstance(value, str) and value and _is_utf8(value):
            return None
        return Misfit("", shown(value), self.words)


@dataclass(frozen=True)
class FrameId:
    """The name of a frame, which other programs also write as a whole number."""

    words: str = "the name of a frame"

    def misfit(self, value: Any, checked: Checked) -> Misfit | None:
        """Refuses what is neither."""
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if whole and abs(value) < 2**63 or Text().misfit(value, checked) is None:
            return None
        return Misfit("", shown(value), self.words)


def _is_utf8(text: str) -> bool:
    """Whether it has no lone surrogates, which pickles and JSON can hold and files cannot."""
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


# --- arrays ---------------------------------------------------------------------------------------


class Numbers:
    """An array, or nested lists, of finite numbers.

    Args:
        shape: a whole number, a letter, or ``AtLeast`` for each axis.
        least, most: the bounds of all numbers.
        whole: refuse numbers of a type with decimals.
        unknown_from: columns from this one on may be NaN: velocities that are not known.
    """

    def __init__(
        self,
        *shape: int | str | AtLeast,
        least: float = -LARGEST,
        most: float = LARGEST,
        whole: bool = False,
        unknown_from: int | None = None,
    ) -> None:
        self.shape = shape
        self.least = least
        self.most = most
        self.kinds = "iu" if whole else "fiu"
        self.unknown_from = unknown_from
        bounds = "" if least == -LARGEST else f" from {least:g} to {most:g}"
        self.words = f"{'whole' if whole else 'finite'} numbers{bounds} {_shape_words(shape)}"

    def misfit(self, value: Any, checked: Checked) -> Misfit | None:
        """Refuses other shapes, texts, and numbers beyond a float32."""
        array = value if isinstance(value, np.ndarray) else _array_of_list(value, len(self.shape))
        if array is None or (array.dtype.kind not in self.kinds and array.size):
            return Misfit("", shown(value), self.words)
        misfit = _wrong_shape(array, self, checked)
        if misfit is not None:
            return misfit
        if array.size and not self._in_range(array):
            return Misfit("", f"{shown(array)} with {self._outside(array)}", self.words)
        return checked.count(array.size)

    def _in_range(self, array: np.ndarray) -> bool:
        if self.least == -LARGEST and _are_moderate(array):
            return True
        if self.unknown_from is not None:
            unknown = array[..., self.unknown_from :]
            array = array[..., : self.unknown_from]
            if (np.abs(unknown) > LARGEST).any():
                return False
        # The smallest and the largest of numbers with a NaN are NaN, which is in no range.
        return bool(array.min() >= self.least and array.max() <= self.most)

    def _outside(self, array: np.ndarray) -> str:
        """One of the numbers that are not in range."""
        inside = (array >= self.least) & (array <= self.most)
        return shown(array[~inside].flat[0].item())


def _are_moderate(array: np.ndarray) -> bool:
    """Whether a quick look shows that all numbers are finite and far from float32's bounds.

    The sum of squares is the fastest one: NaN and infinity survive it, and so do large numbers.
    """
    if array.dtype.kind != "f":
        return True
    flat = array.ravel()
    if array.dtype.itemsize < 4:  # the sum of squares of float16 would overflow
        flat = flat.astype(np.float32)
    return bool(flat.dot(flat) < MODERATE)


class Texts:
    """An array or a list of texts, such as the classes of the objects of a frame."""

    def __init__(self, size: int | str) -> None:
        self.shape = (size,)
        self.words = f"texts {_shape_words(self.shape)}"

    def misfit(self, value: Any, checked: Checked) -> Misfit | None:
        """Refuses arrays of anything else."""
        array = value
        if isinstance(value, (list, tuple)):
            if not all(isinstance(entry, str) for entry in value):
                return Misfit("", shown(value), self.words)
            array = np.empty(len(value))  # for its size
        elif not isinstance(value, np.ndarray) or not _holds_texts(value):
            return Misfit("", shown(value), self.words)
        return _wrong_shape(array, self, checked) or checked.count(array.size)


def _holds_texts(array: np.ndarray) -> bool:
    if array.dtype.kind == "O":
        return all(isinstance(entry, str) for entry in array.flat)
    return array.dtype.kind == "U" or array.size == 0


def _array_of_list(value: object, depth: int) -> np.ndarray | None:
    """The numbers of nested lists as an array; None for ragged ones and other things."""
    if not isinstance(value, (list, tuple)) or _count(value, depth) is None:
        return None
    try:
        return np.array(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _count(value: Sequence | np.ndarray, depth: int) -> int | None:
    """How many numbers lists hold; None where something else stands in them, or too much."""
    if depth <= 1:
        plain = all(isinstance(entry, (int, float, np.number)) for entry in value)
        return len(value) if plain else None
    total = 0
    for row in value:
        inner = _count(row, depth - 1) if isinstance(row, (list, tuple, np.ndarray)) else None
        if inner is None or total + inner > MAX_LIST_NUMBERS:
            return None
        total += inner
    return total


def _wrong_shape(array: np.ndarray, kind: Numbers | Texts, checked: Checked) -> Misfit | None:
    """A misfit where the shape is another one; letters that are new get their size."""
    shape = array.shape
    if isinstance(kind.shape[0], str) and shape and shape[0] == 0:
        shape = (0, *[size.size if isinstance(size, AtLeast) else size for size in kind.shape[1:]])
    fits = len(shape) == len(kind.shape)
    notes = ""
    for size, wanted in zip(shape, kind.shape):
        if isinstance(wanted, AtLeast):
            fits = fits and size >= wanted.size
        elif isinstance(wanted, str):
            known, owner = checked.sizes.setdefault(wanted, (size, checked.key))
            fits = fits and size == known
            notes = f", {wanted} = {known} as in {owner}" if owner != checked.key else notes
        else:
            fits = fits and size == wanted
    return None if fits else Misfit("", shown(array), kind.words + notes)


def _shape_words(shape: Sequence[int | str | AtLeast]) -> str:
    sizes = [f"{size.size} or more" if isinstance(size, AtLeast) else str(size) for size in shape]
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


# --- containers -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class NoneOr:
    """A key that must be there, and may hold None."""

    kind: Kind

    @property
    def words(self) -> str:
        """Those of what it may hold."""
        return f"{self.kind.words}, or nothing"

    def misfit(self, value: Any, checked: Checked) -> Misfit | None:
        """None fits."""
        return None if value is None else self.kind.misfit(value, checked)


class Maybe(NoneOr):
    """A key that may be missing, or hold None."""


class Structure:
    """A mapping with these keys. Others may stand beside them and hold anything.

    Args:
        only_with: a key without which the structure counts as empty: Argoverse 2's test frames have
            labels that are all None.
        keys: what each key holds.
    """

    def __init__(self, only_with: str | None = None, **keys: Kind) -> None:
        self.only_with = only_with
        self.keys = keys
        self.words = f"a mapping with {', '.join(keys)}"

    def and_with(self, **keys: Kind) -> Structure:
        """The same with further keys."""
        return Structure(self.only_with, **self.keys, **keys)

    def misfit(self, value: Any, checked: Checked) -> Misfit | None:
        """The first key that does not fit. What is no mapping lacks the first key."""
        if not isinstance(value, dict):
            key, kind = next(iter(self.keys.items()))
            return Misfit(key, None, kind.words)
        if self.only_with is not None and value.get(self.only_with) is None:
            return None
        if not checked.is_new(value, self):
            return None
        outer = checked.sizes
        checked.sizes = {}
        for key, kind in self.keys.items():
            found = value.get(key)
            if found is None and key not in value and not isinstance(kind, Maybe):
                return Misfit(key, None, kind.words)
            checked.key = key
            misfit = kind.misfit(found, checked)
            if misfit is not None:
                return misfit.below(key)
        checked.sizes = outer
        return None


class ListOf:
    """A list whose entries are all of one kind; at least ``least`` of them."""

    def __init__(self, kind: Kind, least: int = 0) -> None:
        self.kind = kind
        self.least = least
        self.words = f"a list of {least} or more" if least else "a list"

    def misfit(self, value: Any, checked: Checked) -> Misfit | None:
        """The first entry that does not fit."""
        if not isinstance(value, (list, tuple)) or len(value) < self.least:
            return Misfit("", shown(value), self.words)
        if not checked.is_new(value, self):
            return None
        for number, entry in enumerate(value):
            misfit = self.kind.misfit(entry, checked)
            if misfit is not None:
                return misfit.below(f"[{number}]")
        return None


def shown(value: object) -> str:
    """A value in a message: its size and kind where it is large."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    if value is None or isinstance(value, (bool, str, int, float, np.number)):
        text = _short_repr(value)
        return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."
    if isinstance(value, (list, tuple, dict)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"


def _short_repr(value: object) -> str:
    if isinstance(value, str):
        return repr(value[:MAX_SHOWN])
    if isinstance(value, int) and abs(value) >= 10**20:  # Python refuses to print the longest
        return f"a whole number of {value.bit_length()} bits"
    if isinstance(value, np.generic):
        return repr(value.item())
    return repr(value)
