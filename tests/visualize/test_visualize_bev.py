"""Pictures from above: place, colour and score of a box, and the error without matplotlib."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from pcdet_distill.errors import UserError
from pcdet_distill.visualize import (
    BevPanel,
    Limits,
    Rectangle,
    box_outline,
    colours_of,
    draw_bev,
    place_labels,
    score_text,
    to_picture,
)
from pcdet_distill.visualize.bev import _ring_label_places

RANGE = [0, -16, -3, 32, 16, 1]
LIMITS = (0.0, -16.0, 32.0, 16.0)
CLASSES = ["Car", "Pedestrian", "Cyclist"]
CAR = np.array([[10.0, 5.0, -1.0, 4.0, 2.0, 1.5, 0.0]])


def count_pixels(path, rgb, tolerance=12) -> int:
    image = pytest.importorskip("matplotlib.image").imread(path)[..., :3] * 255
    return int((np.abs(image - np.array(rgb)).max(axis=-1) <= tolerance).sum())


def test_forward_is_up_and_left_is_left():
    assert to_picture(np.array([[7.0, 3.0, 0.0]])).tolist() == [[-3.0, 7.0]]


def test_outline_of_a_car_that_drives_forward():
    # Front corners first: 10 + 4/2 forward, 5 +- 2/2 to the left.
    np.testing.assert_allclose(box_outline(CAR[0]), [[-6, 12], [-4, 12], [-4, 8], [-6, 8]])


def test_outline_of_a_car_that_drives_to_the_left():
    turned = CAR[0].copy()
    turned[6] = np.pi / 2
    front = box_outline(turned)[:2]
    np.testing.assert_allclose(front[:, 0], [-7, -7])
    np.testing.assert_allclose(sorted(front[:, 1]), [9, 11])


def test_texts_keep_clear_of_the_rings_labels():
    """The text of a box beside "20 m" goes to another side, so that no number runs into it."""
    limits = Limits(*LIMITS)
    (label, *_) = [place for place in _ring_label_places(limits, 0.1) if place.bottom > 10]
    box = Rectangle(label.left - 3.0, label.bottom - 0.2, label.left - 1.0, label.top + 0.2)
    (beside,) = place_labels([box], [".57"], limits, metres_per_point=0.1)
    (clear,) = place_labels([box], [".57"], limits, 0.1, [label])
    assert beside.overlap(label) > 0
    assert clear.overlap(label) == 0


def test_scores_cover_neither_boxes_nor_each_other():
    """Three boxes in a row, the last one at the edge of the panel."""
    boxes = [Rectangle(x, 10.0, x + 2.0, 14.0) for x in (8.0, 10.5, 13.5)]
    places = place_labels(boxes, [".90", ".80", ".70"], Limits(*LIMITS), metres_per_point=0.1)
    for place in places:
        others = [other for other in [*boxes, *places] if other is not place]
        assert sum(place.overlap(other) for other in others) == 0
        assert place.area_outside(Rectangle(-16.0, 0.0, 16.0, 32.0)) == pytest.approx(0.0)


@pytest.mark.parametrize(("score", "text"), [(0.937, ".93"), (0.3, ".30"), (0.9999, ".99")])
def test_scores_are_cut_to_two_digits(score, text):
    assert score_text(score) == text


def test_every_class_has_its_own_colour():
    names = [*CLASSES, "Van", "Tram", "Truck", "Misc"]
    assert len(set(colours_of(names).values())) == len(names)
    assert colours_of(["Cyclist", "Car"])["Car"] == colours_of(CLASSES)["Car"]


def test_boxes_appear_in_their_colour(tmp_path):
    pytest.importorskip("matplotlib")
    points = np.random.RandomState(0).uniform([0, -16, -2, 0], [32, 16, 1, 1], (500, 4))
    nothing = BevPanel("nothing", np.zeros((0, 7)), [], np.zeros(0))
    car = BevPanel("teacher", CAR, ["Car"], np.array([0.9]), reference=CAR)
    common = {"point_cloud_range": RANGE, "class_names": CLASSES}
    cyan = (0x4C, 0xC9, 0xF0)
    legend_only = count_pixels(draw_bev(points, [nothing], tmp_path / "a.png", **common), cyan)
    one = count_pixels(draw_bev(points, [car], tmp_path / "deep" / "b.png", **common), cyan)
    assert legend_only > 0, "the legend names the class"
    assert one > legend_only + 100


def test_panels_in_two_rows_and_without_points(tmp_path):
    image = pytest.importorskip("matplotlib.image")
    panels = [BevPanel(str(number), CAR, ["Car"]) for number in range(3)]
    common = {"point_cloud_range": RANGE, "class_names": CLASSES}
    wide = image.imread(draw_bev(np.zeros((0, 4)), panels, tmp_path / "wide.png", **common)).shape
    tall = image.imread(
        draw_bev(np.zeros((0, 4)), panels, tmp_path / "tall.png", columns=2, **common)
    ).shape
    assert wide[1] > 2 * wide[0]
    assert tall[1] < 1.2 * tall[0]


def test_a_panel_may_show_another_frame(tmp_path):
    """A wall of points in the second panel alone."""
    places = np.linspace(1, 31, 400)
    wall = np.column_stack([places, np.full(400, -8.0), np.full(400, 1.0)])
    both = [BevPanel("first", CAR, ["Car"]), BevPanel("second", CAR, ["Car"])]
    bright = []
    for number, points in enumerate((None, wall)):
        panels = [both[0], BevPanel("second", CAR, ["Car"], points=points)]
        path = tmp_path / f"{number}.png"
        draw_bev(np.zeros((0, 3)), panels, path, point_cloud_range=RANGE, class_names=CLASSES)
        bright.append(count_pixels(path, (219, 230, 245), tolerance=6))
    assert bright[1] > bright[0] + 100


def test_picture_that_cannot_be_written_is_one_sentence(tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "pictures").write_text("a file where a folder should be")
    with pytest.raises(UserError, match=r"a\.png: this picture cannot be written"):
        draw_bev(
            np.zeros((0, 4)),
            [BevPanel("one", CAR, ["Car"])],
            tmp_path / "pictures" / "a.png",
            point_cloud_range=RANGE,
            class_names=CLASSES,
        )


def test_missing_matplotlib_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(
        UserError,
        match=r'^a picture needs the package matplotlib .*pip install "pcdet_distill\[viz\]"',
    ):
        draw_bev(
            np.zeros((0, 4)), [], tmp_path / "a.png", point_cloud_range=RANGE, class_names=CLASSES
        )
