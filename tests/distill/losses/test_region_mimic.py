"""RegionMimicLoss: places by hand, values and gradients against numpy."""

from __future__ import annotations

import numpy as np
import numpy_methods as plain
import pytest
import test_numpy_methods
import torch
from made_nodes import identity, map_nodes, tap
from test_numpy_methods import MAP_S, MAP_T, agrees, built, map_pair, weights_of

from pcdet_distill.distill.losses.region_mimic import RegionMimicLoss, places_in
from pcdet_distill.errors import ConfigError

# Two boxes on the map of 5 by 4 metres, and one that reaches over its border.
LABELS = np.array(
    [
        [[2.5, 1.8, 0, 4.0, 2.0, 1.5, 0.4, 1], [0] * 8],
        [[1.0, 2.5, 0, 2.0, 3.0, 1.5, -1.0, 2], [3.5, 0.5, 0, 3.0, 1.0, 1.5, 2.0, 1]],
    ]
)


def bilinear(feature, place):
    """The value (C,) of a map (C, H, W) of cells of one metre from the origin."""
    _, height, width = feature.shape
    x, y = place - 0.5  # the centre of the first cell
    value = np.zeros(len(feature))
    for row, column in np.ndindex(height, width):
        # Beyond the outermost centres the outermost value counts.
        distance_x = abs(np.clip(x, 0, width - 1) - column)
        distance_y = abs(np.clip(y, 0, height - 1) - row)
        share = max(0, 1 - distance_x) * max(0, 1 - distance_y)
        value = value + share * feature[:, row, column]
    return value


def places_of(box, points):
    places = []
    for along, across in np.ndindex(points, points):
        local = np.array([(along + 0.5) / points - 0.5, (across + 0.5) / points - 0.5])
        turned = complex(*(local * box[3:5])) * np.exp(1j * box[6])
        places.append(np.array([turned.real, turned.imag]) + box[:2])
    return np.array(places)


def samples(boxes, points):
    """(frame, place, weight) of every place on the map of 5 by 4 metres."""
    found = []
    for frame, frame_boxes in enumerate(boxes):
        for box in frame_boxes:
            places = places_of(box, points) if box[3] > 0 else []
            inside = [p for p in places if (p >= 0).all() and (p <= [5, 4]).all()]
            found += [(frame, place, 1 / len(inside)) for place in inside]
    return found


def mimic(student, teacher, matrix, bias, boxes, points):
    """On the first training batch, whose own statistics standardise the teacher."""
    found = samples(boxes, points)
    weights = np.array([weight for _, _, weight in found])
    own = np.array([bilinear(student[frame], place) for frame, place, _ in found])
    theirs = np.array([bilinear(teacher[frame], place) for frame, place, _ in found])
    return plain.masked_imitation(own, theirs, matrix, bias, weights)


@pytest.mark.parametrize("points", [1, 3, 5])
def test_against_numpy(points, monkeypatch):
    monkeypatch.setattr(test_numpy_methods, "LABELS", LABELS)
    loss = built("RegionMimicLoss", POINTS=points)
    agrees(
        loss,
        map_pair,
        lambda s: mimic(s, MAP_T, *weights_of(loss.adapter), LABELS, points),
        MAP_S,
    )


def test_the_labels_reach_over_the_border():
    """Otherwise the test above would not see how places outside are left out."""
    assert len(samples(LABELS, 5)) < 3 * 25
    assert {frame for frame, _, _ in samples(LABELS, 5)} == {0, 1}


def test_places_stand_in_the_middles_of_equal_parts():
    box = torch.tensor([[10.0, 20, 0, 4, 2, 1.5, np.pi / 2]])
    expected = [[10.5, 19], [9.5, 19], [10.5, 21], [9.5, 21]]  # the length lies along y
    torch.testing.assert_close(places_in(box, 2)[0], torch.tensor(expected))


def loss_and_gradient(boxes):
    """A student that is off by 1 everywhere, and where its gradient is not zero."""
    loss = RegionMimicLoss(tap(1), tap(1)).eval()
    identity(loss.adapter)
    features = torch.ones(1, 1, 8, 8).requires_grad_()
    teacher = map_nodes(torch.zeros(1, 1, 8, 8))
    value = loss(map_nodes(features), teacher, {"gt_boxes": torch.tensor([boxes])})
    value.backward()
    return value.item(), features.grad[0, 0].nonzero().tolist(), loss.logs["boxes"]


def test_gradient_reaches_the_cells_of_the_box_alone():
    value, cells, boxes = loss_and_gradient([[4.0, 4, 0, 1, 1, 1, 0, 1]])
    assert value == pytest.approx(1)
    assert cells == [[3, 3], [3, 4], [4, 3], [4, 4]]
    assert boxes == 1


@pytest.mark.parametrize("boxes", [[[0.0] * 8], [[50.0, 4, 0, 1, 1, 1, 0, 1]]])
def test_without_a_box_on_the_map_the_loss_is_zero(boxes):
    assert loss_and_gradient(boxes) == (0, [], 0)


def test_a_large_box_counts_as_much_as_a_small_one():
    loss = RegionMimicLoss(tap(1), tap(1)).eval()
    identity(loss.adapter)
    features = torch.zeros(1, 1, 8, 16)
    features[..., 8:] = 1.0  # the large box is wrong by 1, the small one right
    boxes = [[12.0, 4, 0, 6, 6, 1, 0, 1], [3.0, 4, 0, 1, 1, 1, 0, 1]]
    teacher = map_nodes(torch.zeros(1, 1, 8, 16))
    value = loss(map_nodes(features), teacher, {"gt_boxes": torch.tensor([boxes])})
    assert value.item() == pytest.approx(0.5)


def test_taps_that_give_no_map_are_refused():
    with pytest.raises(ConfigError, match="T: RegionMimicLoss compares whole maps, but tap"):
        RegionMimicLoss.from_config({}, tap(3, "voxel"), tap(4), "T")
