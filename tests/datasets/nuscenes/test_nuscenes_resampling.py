"""Class-balanced resampling: every class is drawn equally often, out of its own frames."""

from __future__ import annotations

import numpy as np
import pytest

from pcdet_distill.datasets.nuscenes.resampling import balanced_frames
from pcdet_distill.errors import DataError

CLASSES = ["car", "truck", "bus"]
# 90 frames of cars alone, 9 with a truck, one with a bus.
FRAMES = [{"car"}] * 90 + [{"car", "truck"}] * 9 + [{"car", "bus", "ignore"}]


def drawn(seed: int = 0) -> np.ndarray:
    return balanced_frames(FRAMES, CLASSES, np.random.RandomState(seed))


def test_every_class_is_drawn_equally_often() -> None:
    frames = drawn()
    each = 110 // 3  # cars in 100 frames, trucks in 9, a bus in one
    assert len(frames) == 3 * each
    of_car, of_truck, of_bus = np.split(frames, 3)
    assert of_car.max() > of_car.min()
    assert set(of_truck) <= set(range(90, 99))
    assert set(of_bus) == {99}


def test_the_generator_decides() -> None:
    np.testing.assert_array_equal(drawn(1), drawn(1))
    assert (drawn(1) != drawn(2)).any()


def test_several_objects_of_a_class_count_once() -> None:
    frames = [["car", "car", "car"], ["truck"]]
    resampled = balanced_frames(frames, ["car", "truck"], np.random.RandomState(0))
    assert resampled.tolist() == [0, 1]


def test_a_class_without_frames_is_named() -> None:
    with pytest.raises(DataError, match="no frame holds a trailer / tram, so it cannot be drawn"):
        balanced_frames(FRAMES, [*CLASSES, "trailer", "tram"], np.random.RandomState(0))
