"""The texts beside boxes: near them, never over each other."""

from __future__ import annotations

import numpy as np
import pytest

from pcdet_distill.visualize import Limits, Rectangle, leader_of, place_labels

LIMITS = Limits(0.0, -40.0, 70.0, 40.0)
PANEL = Rectangle(-40.0, 0.0, 40.0, 70.0)
METRES_PER_POINT = 0.26  # a panel of 4.2 inch that shows 80 m


def crowd(count: int, seed: int = 0, spread: float = 8.0) -> list[Rectangle]:
    """Pedestrians and cars of a square."""
    random = np.random.RandomState(seed)
    boxes = []
    for x, y in random.normal([0, 30], spread, (count, 2)):
        width, length = [(0.8, 0.8), (2.0, 4.5)][random.randint(2)]
        boxes.append(Rectangle(x, y, x + width, y + length))
    return boxes


@pytest.mark.parametrize("count", [5, 20, 60])
def test_no_text_covers_another_one_or_leaves_the_picture(count: int):
    boxes = crowd(count)
    texts = [f"Pedestrian .{number:02d}" for number in range(count)]
    placed = place_labels(boxes, texts, LIMITS, METRES_PER_POINT)
    places = [place for place in placed if place is not None]
    for number, place in enumerate(places):
        assert place.area_outside(PANEL) == pytest.approx(0.0, abs=1e-9)
        for other in places[number + 1 :]:
            assert place.overlap(other) <= 0.021 * min(place.area, other.area) * 1.01


def test_twenty_boxes_of_a_square_all_keep_their_text():
    placed = place_labels(crowd(20), ["Car .90"] * 20, LIMITS, METRES_PER_POINT)
    assert all(place is not None for place in placed)


def test_where_there_is_no_room_the_last_boxes_lose_their_text():
    """Two hundred boxes at one place: the first, which are the best, are told."""
    boxes = [Rectangle(0, 30, 2, 34)] * 200
    placed = place_labels(boxes, ["Car .50"] * 200, LIMITS, METRES_PER_POINT)
    told = [number for number, place in enumerate(placed) if place is not None]
    assert told == list(range(len(told)))
    assert 20 < len(told) < 200


def test_a_lonely_box_has_its_text_beside_it_and_no_line():
    box = Rectangle(0.0, 30.0, 2.0, 34.0)
    (place,) = place_labels([box], ["Car .93"], LIMITS, METRES_PER_POINT)
    assert place is not None
    assert 0 < place.left - box.right < 4 * METRES_PER_POINT
    assert place.top == box.top
    assert leader_of(box, place, METRES_PER_POINT) is None


def test_a_text_far_from_its_box_gets_a_line_from_edge_to_edge():
    box = Rectangle(0.0, 30.0, 2.0, 34.0)
    place = Rectangle(12.0, 40.0, 20.0, 42.0)
    line = leader_of(box, place, METRES_PER_POINT)
    assert line is not None
    np.testing.assert_allclose(line, [[12.0, 40.0], [2.0, 34.0]])


def test_texts_keep_clear_of_other_boxes():
    box = Rectangle(0.0, 30.0, 2.0, 34.0)
    wall = Rectangle(2.5, 20.0, 12.0, 45.0)
    (place,) = place_labels([box], ["Car .93"], LIMITS, METRES_PER_POINT, [wall])
    assert place is not None
    assert place.overlap(wall) == 0
    assert place.overlap(box) == 0


def test_a_box_outside_the_picture_has_no_text():
    (place,) = place_labels([Rectangle(60, 90, 62, 94)], ["Car"], LIMITS, METRES_PER_POINT)
    assert place is None
