"""WeightSchedule: its values, and every refusal."""

from __future__ import annotations

import pytest

from pcdet_distill.distill.schedule import WeightSchedule
from pcdet_distill.errors import ConfigError


@pytest.mark.parametrize(
    "block, expected",
    [
        (0.7, [0.7, 0.7, 0.7, 0.7, 0.7]),
        (2, [2.0] * 5),
        ({"START": 3.0, "SCHEDULE": "constant"}, [3.0] * 5),
        ({"START": 2.0, "END": 0.0}, [2.0, 1.5, 1.0, 0.5, 0.0]),
        ({"START": 0.0, "END": 1.0, "SCHEDULE": "linear"}, [0.0, 0.25, 0.5, 0.75, 1.0]),
        ({"START": 1.0, "END": 0.0, "SCHEDULE": "cosine"}, [1.0, 0.853553, 0.5, 0.146447, 0.0]),
        ({"START": 1.0, "END": 0.2, "SCHEDULE": "linear", "UNTIL": 0.5}, [1.0, 0.6, 0.2, 0.2, 0.2]),
    ],
)
def test_golden_numbers(block, expected):
    schedule = WeightSchedule.from_config(block, "W")
    assert [schedule.at(progress) for progress in (0, 0.25, 0.5, 0.75, 1)] == pytest.approx(
        expected, abs=1e-6
    )
    assert schedule.at(1.3) == pytest.approx(expected[-1])
    assert schedule.changes == (len(set(expected)) > 1)


@pytest.mark.parametrize(
    "block, words",
    [
        (-1, "W: expected a number from 0 up, found -1"),
        (True, "W: expected a number"),
        ("much", "W: expected a number"),
        (float("nan"), "W: expected a number"),
        ({"STRAT": 1}, "W: unknown key 'STRAT'; did you mean 'START'"),
        (
            {"START": 1, "END": 0, "SCHEDULE": "cosinus"},
            "W.SCHEDULE: unknown value 'cosinus'; did you mean 'cosine'",
        ),
        ({"START": 1}, "W.END is missing"),
        ({"END": 1}, "W.START is missing"),
        ({"SCHEDULE": "constant"}, "W.START is missing"),
        ({"START": 1, "END": 0, "SCHEDULE": "constant"}, "W.END: has no effect"),
        ({"START": 1, "END": -1}, "W.END: expected a number from 0 up"),
        (
            {"START": 1, "END": 0, "UNTIL": 0},
            "W.UNTIL: expected a number above 0 and up to 1, found 0",
        ),
    ],
)
def test_refused(block, words):
    with pytest.raises(ConfigError) as error:
        WeightSchedule.from_config(block, "W")
    assert words in str(error.value)


def test_text():
    assert str(WeightSchedule.from_config(0.5, "W")) == "0.5"
    block = {"START": 1, "END": 0, "SCHEDULE": "cosine", "UNTIL": 0.5}
    assert (
        str(WeightSchedule.from_config(block, "W")) == "1 to 0 (cosine until 50% of the training)"
    )
