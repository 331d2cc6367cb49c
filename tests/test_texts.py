"""Small pieces of text."""

from __future__ import annotations

import pytest

from pcdet_distill.texts import duration_in_words, in_columns, listed


@pytest.mark.parametrize(
    ("names", "text"),
    [([], ""), (["a"], "a"), ([1, 2, 3], "1, 2, 3"), ("abcde", "a, b, c and 2 more")],
)
def test_the_first_names(names: list[object], text: str) -> None:
    assert listed(names, 3) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(7.4, "7 s"), (75, "1 min 15 s"), (3599.6, "1 h 0 min"), (7500, "2 h 5 min")],
)
def test_durations_for_readers(seconds: float, text: str) -> None:
    assert duration_in_words(seconds) == text


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    lines = in_columns([("class", "AP"), ("Car", "99.10"), ("none", "")])
    assert lines == ["class     AP", "Car    99.10", "none"]
