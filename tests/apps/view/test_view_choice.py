"""--frames: numbers, positions and names."""

from __future__ import annotations

import pytest

from pcdet_distill.apps.view.choice import choose_frames
from pcdet_distill.errors import ConfigError

NAMES = [f"{number:06d}" for number in range(0, 200, 2)]


def test_without_the_flag_the_first_fifty():
    assert choose_frames([], NAMES) == list(range(50))
    assert choose_frames([], NAMES[:3]) == [0, 1, 2]


def test_a_number_is_a_count():
    assert choose_frames(["4"], NAMES) == [0, 1, 2, 3]
    assert choose_frames(["400"], NAMES) == list(range(100))


def test_a_count_prefers_frames_with_results():
    assert choose_frames(["2"], NAMES, {"000100", "000102", "000104"}) == [50, 51]
    assert choose_frames(["2"], NAMES, {"of another set"}) == [0, 1]


def test_positions():
    assert choose_frames(["10:13"], NAMES) == [10, 11, 12]
    assert choose_frames(["90:"], NAMES) == list(range(90, 100))
    assert choose_frames(["::40"], NAMES) == [0, 40, 80]


def test_names_in_the_order_that_is_asked_for_and_once():
    assert choose_frames(["000008", "000002", "000008"], NAMES) == [4, 1]
    assert choose_frames(["000008,000002"], NAMES) == [4, 1]
    assert choose_frames(["000008"], NAMES) == [4], "a name comes before a count"


def test_names_by_their_number_or_last_part():
    assert choose_frames(["8", "12"], NAMES) == [4, 6]
    assert choose_frames(["scan", "b/cloud"], ["a/scan", "b/cloud"]) == [0, 1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["0"], "expected 1 or more"),
        (["500:"], "no frame is left; there are 100"),
        (["::0"], "expected a step of 1 or more"),
        (["000009"], "called '000009'; the 100 frames are '000000' to '000198'"),
        (["3", "5"], "no frame is called '3'"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(words, message):
    with pytest.raises(ConfigError, match=message):
        choose_frames(words, NAMES)


def test_a_last_part_of_two_frames_is_refused():
    with pytest.raises(ConfigError, match="may be 'a/0001' and 'b/0001'"):
        choose_frames(["0001", "a/0001"], ["a/0001", "b/0001"])
