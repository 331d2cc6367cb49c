"""The highest AP of few objects, by the rule and by evaluating perfect detections."""

from __future__ import annotations

import numpy as np
import pytest

from pcdet_distill.evaluation.few_objects import few_objects, highest_possible
from pcdet_distill.evaluation.lidar.curves import score_list


@pytest.mark.parametrize("num_objects", [1, 2, 3, 5, 6, 13, 20, 39, 40, 41, 42, 60, 79, 81, 200])
def test_perfect_detections_reach_the_highest_possible(num_objects: int) -> None:
    scores = np.linspace(1, 0.1, num_objects)
    figures = score_list(scores, np.ones(num_objects, dtype=bool), num_objects)
    highest = highest_possible(num_objects)
    for kind, value in highest.items():
        assert figures.average_precision(kind) == pytest.approx(value)


def test_nothing_is_possible_without_objects() -> None:
    assert set(highest_possible(0).values()) == {0.0}


@pytest.mark.parametrize(
    ("num_objects", "words", "missing"),
    [
        (1, "Car has 1 object, so one found or missed changes recall by 100.0 points", "nothing"),
        (6, "perfect detections reach AP R40 12.50 and R11 18.18", "nothing"),
        (45, "Car has 45 objects, so one found or missed changes recall by 2.2 points", "R40"),
    ],
)
def test_the_sentence_for_people(num_objects: int, words: str, missing: str) -> None:
    sentence = few_objects("Car", num_objects)
    assert words in sentence
    assert missing not in sentence
