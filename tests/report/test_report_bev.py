"""Frames from above: dots and boxes stand where the points and boxes are."""

from __future__ import annotations

import re

import numpy as np
import pytest
from page_reader import read_page

from pcdet_distill.report.bev import CELL, MOST_DOTS, WIDTH, BoxSet, Frame, bev_svg
from pcdet_distill.visualize import Limits

LIMITS = Limits(0.0, -20.0, 40.0, 20.0)
SCALE = WIDTH / 40.0


def dots_of(html: str) -> np.ndarray:
    """(N, 2) places of the dots in the picture's units."""
    paths = re.findall(r"class='(?:low|mid|high)' d='([^']*)'", html)
    places = []
    for path in paths:
        steps = np.array(re.findall(r"m(-?\d+) (-?\d+)h0", path), dtype=int).reshape(-1, 2)
        places.append(steps.cumsum(axis=0))
    return np.concatenate(places) * CELL


def test_dots_stand_where_the_points_are():
    rng = np.random.default_rng(0)
    points = rng.uniform((-5, -25, -2), (45, 25, 2), size=(500, 3))
    points[0] = np.nan
    inside = (points[:, 0] >= 0) & (points[:, 0] < 40) & (np.abs(points[:, 1]) < 20)
    expected = np.stack([(20 - points[:, 1]) * SCALE, (40 - points[:, 0]) * SCALE], axis=1)[inside]
    dots = dots_of(bev_svg(Frame(points, LIMITS, "a"), []))
    apart = np.abs(dots[:, None] - expected[None]).max(axis=2)
    assert apart.min(axis=1).max() <= CELL  # every dot has its point
    assert apart.min(axis=0).max() <= CELL  # and every point its dot


def test_a_dense_frame_stays_small():
    points = np.random.default_rng(1).uniform((0, -20, -2), (40, 20, 2), size=(200_000, 3))
    html = bev_svg(Frame(points, LIMITS, "a"), [])
    assert len(dots_of(html)) == MOST_DOTS
    assert len(html) < 80_000


@pytest.mark.parametrize("count", [0, 1])
def test_a_frame_of_hardly_any_points(count):
    html = bev_svg(Frame(np.full((count, 4), 5.0), LIMITS, "a"), [BoxSet(np.zeros((0, 7)))])
    read_page(html)
    assert len(dots_of(html)) == count


def test_pictures_of_one_frame_share_its_points():
    frame = Frame(np.full((1, 3), 5.0), LIMITS, "f1")
    first, second = bev_svg(frame, []), bev_svg(frame, [])
    assert "id='points-f1'" in first and "id='points-f1'" not in second
    assert "<use href='#points-f1'/>" in second


def test_a_box_has_its_corners_its_front_and_its_label():
    box = np.array([[10.0, 5.0, 0, 4.0, 2.0, 1.5, 0.0]])
    boxes = BoxSet(box, labels=["Car .93"], colours=[2], titles=["Car & co"], marked=[True])
    html = bev_svg(Frame(np.zeros((0, 3)), LIMITS, "a"), [boxes])
    reader = read_page(html)
    outline = re.search(r"class='box' d='M([^']*)Z'", html).group(1)
    corners = np.array([pair.split() for pair in outline.split("L")], dtype=float)
    # Front at x = 12 m: 28 m below the upper edge; left side at y = 6 m: 14 m from the left edge.
    expected = np.array([[14, 28], [16, 28], [16, 32], [14, 32]]) * SCALE
    np.testing.assert_allclose(corners, expected, atol=0.06)
    tip = re.search(r"class='front' d='M([\d.]+) ([\d.]+)L", html)
    assert float(tip.group(1)) == pytest.approx(15 * SCALE, abs=0.06)
    assert float(tip.group(2)) == pytest.approx(28 * SCALE, abs=0.06)
    assert "Car .93" in reader.words and "Car & co" in reader.words
    assert reader.count("g", "s2") == 1 and reader.count("circle", "mark") == 1


def test_labels_do_not_cover_each_other():
    boxes = np.array([[10 + 2.5 * n, 0.0, 0, 2.0, 1.0, 1.5, 0.3] for n in range(8)])
    html = bev_svg(
        Frame(np.zeros((0, 3)), LIMITS, "a"),
        [BoxSet(boxes, labels=[f"Pedestrian .{n}5" for n in range(8)])],
    )
    found = re.findall(r"<text class='ink' x='([\d.]+)' y='([\d.]+)'>", html)
    places = np.array(found, dtype=float)
    assert len(places) == 8
    for n, place in enumerate(places):
        others = np.delete(places, n, axis=0)
        is_beside = np.abs(others[:, 0] - place[0]) > 70
        is_above = np.abs(others[:, 1] - place[1]) > 10
        assert (is_beside | is_above).all()


def test_boxes_that_are_not_finite_are_left_out():
    boxes = np.array([[np.nan] * 7, [10.0, 0, 0, 4, 2, 1.5, 0]])
    html = bev_svg(Frame(np.zeros((0, 3)), LIMITS, "a"), [BoxSet(boxes, labels=["bad", "good"])])
    assert read_page(html).count("path", "box") == 1
    assert "bad" not in html and "nan" not in html
