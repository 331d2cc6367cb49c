"""Declarations of text files: good lines are read, a bad one is named by file, line and field."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from pcdet_distill.datasets.text_structures import (
    MAX_BYTES,
    FrameName,
    Line,
    NamedMatrices,
    OneOf,
    Unread,
    number_of,
    numbered_lines,
    read_frame_list,
    read_text,
)
from pcdet_distill.errors import DataError
from pcdet_distill.structures import Number, Text, misfit_of

PLACE = Line(
    {"name": OneOf(["Car", "Van"]), "x": Number(least=0), "y": Unread(), "score": Number()},
    optional="score",
)
NAMED = Line({"x": Number(), "name": Text()}, open_end=True)
CALIBRATION = NamedMatrices(P=(2, 2), R=(1, 2))


def test_a_line_is_read_by_its_fields() -> None:
    assert PLACE.read(" Car\t3 nan 0.5\n", "here") == {
        "name": "Car",
        "x": 3,
        "y": "nan",
        "score": 0.5,
    }
    assert PLACE.read("Van 1e-3 far", "here") == {"name": "Van", "x": 0.001, "y": "far"}
    assert NAMED.read("-2 hand  truck \n", "here") == {"x": -2, "name": "hand  truck"}


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("Car 3", "a, line 1: has 2 fields, expected 3 or 4: name x y score"),
        ("Car 3 4 5 6", "a, line 1: has 5 fields, expected 3 or 4: name x y score"),
        ("Car far 4", "a, line 1: its x is 'far', expected a finite number from 0 up"),
        ("Car -3 4", "a, line 1: its x is -3.0, expected a finite number from 0 up"),
        ("Car nan 4", "a, line 1: its x is nan, expected a finite number from 0 up"),
        (
            "Car 1e39 4",
            "a, line 1: its x is 1e+39 (beyond float32), expected a finite number from 0 up",
        ),
        (
            "Carr 3 4",
            "a, line 1: its name is 'Carr'; did you mean 'Car'?, expected one of Car, Van",
        ),
    ],
)
def test_a_bad_line_is_one_sentence(line: str, sentence: str) -> None:
    with pytest.raises(DataError) as caught:
        PLACE.read(line, "a, line 1")
    assert str(caught.value) == sentence


@pytest.mark.parametrize("word", ["1_5", "٣", "²", "", "0x10", "1,5"])
def test_what_is_no_number_stays_a_word(word: str) -> None:
    assert number_of(word) == word


def test_numbers_of_a_file() -> None:
    assert [number_of(word) for word in ("-1.5", "+2", "3e2", ".5")] == [-1.5, 2, 300, 0.5]


@pytest.mark.parametrize("name", ["000008", "seq 1/0001", "Straße", "a.b"])
def test_names_of_frames(name: str) -> None:
    assert misfit_of(name, FrameName()) is None


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "../a", "a/../b", "a//b", "a/", ".", "a\0", "a\x1b[31m", "a" * 241]
)
def test_what_is_no_name_of_a_frame(name: str) -> None:
    assert misfit_of(name, FrameName()) is not None


def test_lists_of_frames(tmp_path: Path) -> None:
    file = tmp_path / "train.txt"
    file.write_bytes(b"\xef\xbb\xbf000003\r\n\r\n 00 01 \r\n")
    assert read_frame_list(file, "is missing") == ["000003", "00 01"]
    file.write_text("000003\n\n000001\n000003\n")
    with pytest.raises(DataError, match=r"train.txt, line 4: .*'000003' twice, first in line 1;"):
        read_frame_list(file, "is missing")
    file.write_text("000003\n../../secret\n")
    with pytest.raises(DataError, match=r"train.txt, line 2: '../../secret' is not the name"):
        read_frame_list(file, "is missing")
    with pytest.raises(DataError, match=r"none.txt: is missing"):
        read_frame_list(tmp_path / "none.txt", "is missing")


def test_matrices_by_name(tmp_path: Path) -> None:
    text = "made: today\nR: 5 6\n\nP: 1 2 3 0.1\nother: x\n"
    matrices = CALIBRATION.read(tmp_path, text)
    assert list(matrices) == ["P", "R"]
    np.testing.assert_array_equal(matrices["P"], np.float32([[1, 2], [3, 0.1]]))
    np.testing.assert_array_equal(matrices["R"], [[5, 6]])
    assert matrices["P"].dtype == np.float32


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("P: 1 2 3 4\n", "a.txt: the line 'R:' is missing; expected P, R"),
        ("P: 1 2 3\nR: 1 2", "a.txt, line 1: 'P:' has 3 numbers, expected 4 for a matrix (2, 2)"),
        ("R: 1 2\nP: 1 2 3 x\n", "a.txt, line 2: 'P:' holds 'x', expected finite numbers"),
        ("R: 1 2\nP: 1 2 3 inf\n", "a.txt, line 2: 'P:' holds inf, expected finite numbers"),
        ("R: 1 2\nR: 1 3\n", "a.txt, line 2: a second line 'R:'; expected each matrix once"),
    ],
)
def test_bad_matrices_are_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(DataError) as caught:
        CALIBRATION.read(Path("a.txt"), text)
    assert str(caught.value) == sentence


def test_lines_keep_their_numbers(tmp_path: Path) -> None:
    lines = list(numbered_lines(Path("a.txt"), "\n1 2\r\n \n3\n"))
    assert lines == [("a.txt, line 2", "1 2"), ("a.txt, line 4", "3")]


def test_files_that_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="pipe: is no regular file"):
        read_text(tmp_path / "pipe", "a label file")
    with (tmp_path / "huge.txt").open("wb") as file:
        file.truncate(20 * MAX_BYTES)  # takes no room on the disk
    with pytest.raises(DataError, match="huge.txt: is larger than 64 MB; a label file is not"):
        read_text(tmp_path / "huge.txt", "a label file")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe0")
    with pytest.raises(DataError, match="binary.txt: cannot be read as a label file"):
        read_text(tmp_path / "binary.txt", "a label file")
    with pytest.raises(DataError, match="none.txt: is missing"):
        read_text(tmp_path / "none.txt", "a label file", "is missing")
