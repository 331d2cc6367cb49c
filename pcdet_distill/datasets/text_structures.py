"""What the lines of a text file hold, declared once: ``structures`` for files of words.

    BOX = Line({"x": Number(), "y": Number(), "name": Text()})
    BOX.read("3 4 Car", "a.txt, line 7")    # {"x": 3.0, "y": 4.0, "name": "Car"}
    BOX.read("3 far Car", "a.txt, line 7")  # DataError: a.txt, line 7: its y is 'far', expected ...

Whoever reads the values later may rely on them and needs no check of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..config import check_regular, nearest
from ..errors import DataError
from ..structures import Checked, Kind, Misfit, Number, misfit_of, shown

MAX_BYTES = 64 * 2**20  # of the file of one frame: a million labels
MAX_NAME_BYTES = 240  # of a part of a frame's name; an ending follows, and file systems allow 255

Values = dict[str, Any]  # floats and texts by the names of their fields


# --- what a word can be ---------------------------------------------------------------------------


@dataclass(frozen=True)
class OneOf:
    """One of these names.

    Args:
        names: all of them.
        advice: a sentence for whoever has another one; it follows the names.
    """

    names: Sequence[str]
    advice: str = ""

    @property
    def words(self) -> str:
        """The names."""
        return f"one of {', '.join(self.names)}{self.advice}"

    def misfit(self, value: Any, checked: Checked) -> Misfit | None:
        """Refuses other names, with the nearest one."""
        if value in self.names:
            return None
        return Misfit("", f"{shown(value)}{nearest(str(value), self.names)}", self.words)


@dataclass(frozen=True)
class Unread:
    """A field that nobody reads: any word."""

    words: str = "anything"

    def misfit(self, value: Any, checked: Checked) -> Misfit | None:
        """Everything fits."""
        return None


@dataclass(frozen=True)
class FrameName:
    """The name of a frame, which becomes the name of its files; it may begin with folders."""

    words: str = "the name of a frame, such as 000008"

    def misfit(self, value: Any, checked: Checked) -> Misfit | None:
        """Refuses what is no file name, or leads out of the folder."""
        if all(_is_file_name(part) for part in value.split("/")):
            return None
        return Misfit("", shown(value), self.words)


def _is_file_name(part: str) -> bool:
    is_name = part not in ("", ".", "..") and part.isprintable()
    return is_name and len(part.encode()) <= MAX_NAME_BYTES


# --- a line ---------------------------------------------------------------------------------------


class Line:
    """A line of words: the first is the first field, and so on.

    Args:
        fields: what each word is.
        optional: the last field, where it may be missing.
        open_end: the last field takes all the words that are left: a name with spaces.
    """

    def __init__(
        self, fields: Mapping[str, Kind], optional: str = "", open_end: bool = False
    ) -> None:
        self.fields = fields
        self.open_end = open_end
        self.least = len(fields) - (optional in fields)
        self._kinds = list(fields.items())

    def read(self, text: str, where: str) -> Values:
        """The values of a line; ``where`` names file and line.

        Raises:
            DataError: what does not fit, in one sentence.
        """
        words = text.split(maxsplit=len(self.fields) - 1) if self.open_end else text.split()
        if not self.least <= len(words) <= len(self.fields):
            raise DataError(
                f"{where}: has {len(words)} fields, expected {self._counts()}: "
                f"{' '.join(self.fields)}"
            )
        values: Values = {}
        for (name, kind), word in zip(self._kinds, words):
            value = number_of(word) if isinstance(kind, Number) else word.rstrip()
            misfit = misfit_of(value, kind)
            if misfit is not None:
                raise DataError(f"{where}: {misfit.below(name)}")
            values[name] = value
        return values

    def _counts(self) -> str:
        most = len(self.fields)
        return str(most) if most == self.least else f"{self.least} or {most}"


def number_of(word: str) -> float | str:
    """The number that a word is; the word itself where it is none.

    Python also reads ``1_5`` as 15 and the digits of other scripts. In a file they are damage.
    """
    if "_" in word or not word.isascii():
        return word
    try:
        return float(word)
    except ValueError:
        return word


# --- a file ---------------------------------------------------------------------------------------


def read_text(path: Path, what: str, missing: str = "does not exist") -> str:
    """The text of a file of one frame, or of a list of frames.

    Args:
        what: what the file is, for the error.
        missing: the end of the sentence about a file that is not there.

    Raises:
        DataError: it is missing, no regular file, too large, or no text in UTF-8.
    """
    check_regular(path)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise DataError(
                f"{path}: is larger than {MAX_BYTES >> 20} MB; {what} is not as large as that"
            )
        # Editors on Windows put a mark before the first letter, which utf-8-sig removes.
        return content.decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: {missing}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as {what}: {error}") from None


def numbered_lines(path: Path, text: str) -> Iterator[tuple[str, str]]:
    """Each line that holds something, after its place for messages."""
    name = str(path)
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield f"{name}, line {number}", line


class NamedMatrices:
    """Lines ``NAME: number number ...``, each the rows of a matrix. Other lines may hold anything.

    Args:
        shapes: rows and columns by name.
    """

    def __init__(self, **shapes: tuple[int, int]) -> None:
        self.shapes = shapes

    def read(self, path: Path, text: str) -> dict[str, np.ndarray]:
        """The float32 matrices of all names.

        Raises:
            DataError: a line is missing, stands twice, or does not hold its numbers.
        """
        matrices: dict[str, np.ndarray] = {}
        for where, line in numbered_lines(path, text):
            name, colon, words = line.partition(":")
            name = name.strip()
            if not colon or name not in self.shapes:
                continue
            if name in matrices:
                raise DataError(f"{where}: a second line '{name}:'; expected each matrix once")
            matrices[name] = _matrix(words.split(), self.shapes[name], f"{where}: '{name}:'")
        for name in self.shapes:
            if name not in matrices:
                raise DataError(
                    f"{path}: the line '{name}:' is missing; expected {', '.join(self.shapes)}"
                )
        return {name: matrices[name] for name in self.shapes}


def _matrix(words: Sequence[str], shape: tuple[int, int], where: str) -> np.ndarray:
    num_values = math.prod(shape)
    if len(words) != num_values:
        raise DataError(
            f"{where} has {len(words)} numbers, expected {num_values} for a matrix "
            f"({shape[0]}, {shape[1]})"
        )
    values = [number_of(word) for word in words]
    for value in values:
        misfit = misfit_of(value, Number())
        if misfit is not None:
            raise DataError(f"{where} holds {misfit.found}, expected finite numbers")
    return np.array(values, dtype=np.float64).astype(np.float32).reshape(shape)


def read_frame_list(path: Path, missing: str) -> list[str]:
    """The frames of a split file: one a line, each once. Their names may hold spaces.

    Args:
        missing: the end of the sentence about a file that is not there.
    """
    text = read_text(path, "a list of frames", missing)
    place_of: dict[str, str] = {}
    for where, line in numbered_lines(path, text):
        frame = line.strip()
        misfit = misfit_of(frame, FrameName())
        if misfit is not None:
            raise DataError(f"{where}: {misfit.found} is not {misfit.expected}")
        if frame in place_of:
            raise DataError(
                f"{where}: lists the frame '{frame}' twice, first in "
                f"{place_of[frame].rpartition(', ')[2]}; expected every frame once"
            )
        place_of[frame] = where
    return list(place_of)
