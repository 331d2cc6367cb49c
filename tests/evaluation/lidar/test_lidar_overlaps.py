"""Exact overlaps: known shapes, plain clipping, counted cells, and OpenPCDet's overlap nearby."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from lidar_annos import detected, labels, moved, random_boxes
from naive_lidar import bev_iou, iou_3d

from pcdet_distill.evaluation.lidar.frames import pair_frames
from pcdet_distill.evaluation.lidar.overlaps import Pairs, compare_boxes
from pcdet_distill.ops.boxes import boxes_iou_bev

SQUARE = (10.0, -3.0, 0.5, 2.0, 2.0, 2.0, 0.4)


def compared(found: list, truth: list) -> Pairs:
    """The pairs of boxes in one frame."""
    named = [("Car", box) for box in truth]
    scored = [("Car", 1.0 - number / 1000, box) for number, box in enumerate(found)]
    frames = pair_frames([labels("0", *named)], [detected("0", *scored)])
    return compare_boxes(frames.detections, frames.objects)


@pytest.mark.parametrize(
    ("other", "bev", "volume"),
    [
        (SQUARE, 1.0, 1.0),
        (moved(SQUARE, z=1.0), 1.0, 1 / 3),
        (moved(SQUARE, z=2.5), 1.0, 0.0),
        (moved(SQUARE, x=math.cos(0.4), y=math.sin(0.4)), 1 / 3, 1 / 3),
        (moved(SQUARE, turn=math.pi / 2), 1.0, 1.0),
        (moved(SQUARE, turn=math.pi), 1.0, 1.0),
        (moved(SQUARE, x=3.0), 0.0, 0.0),
    ],
)
def test_known_shapes(other: tuple, bev: float, volume: float) -> None:
    pairs = compared([other], [SQUARE])
    assert pairs.bev[0] == pytest.approx(bev, abs=1e-12)
    assert pairs.volume[0] == pytest.approx(volume, abs=1e-12)


def test_a_square_turned_by_an_eighth_shares_an_octagon() -> None:
    shared = 8 * (math.sqrt(2) - 1)  # of a square of side 2
    pairs = compared([moved(SQUARE, turn=math.pi / 4)], [SQUARE])
    assert pairs.bev[0] == pytest.approx(shared / (8 - shared))


def test_random_boxes_agree_with_plain_clipping() -> None:
    rng = np.random.default_rng(1)
    found = random_boxes(rng, 40, 4.0).tolist()
    truth = random_boxes(rng, 30, 4.0).tolist()
    pairs = compared(found, truth)
    expected_bev = [bev_iou(box, other) for box in found for other in truth]
    expected_volume = [iou_3d(box, other) for box in found for other in truth]
    np.testing.assert_allclose(pairs.bev, expected_bev, atol=1e-12)
    np.testing.assert_allclose(pairs.volume, expected_volume, atol=1e-12)
    assert (pairs.bev > 0.3).any()


def test_overlap_agrees_with_counted_cells() -> None:
    rng = np.random.default_rng(2)
    box = random_boxes(rng, 1, 0.5)[0]
    other = random_boxes(rng, 1, 0.5)[0]
    places = rng.uniform(-4, 4, (400_000, 2))
    inside = [_is_inside(places, each) for each in (box, other)]
    expected = (inside[0] & inside[1]).sum() / (inside[0] | inside[1]).sum()
    assert compared([box], [other]).bev[0] == pytest.approx(expected, abs=5e-3)


def _is_inside(places: np.ndarray, box: np.ndarray) -> np.ndarray:
    offset = places - box[:2]
    along = offset @ np.array([np.cos(box[6]), np.sin(box[6])])
    across = offset @ np.array([-np.sin(box[6]), np.cos(box[6])])
    return (np.abs(along) < box[3] / 2) & (np.abs(across) < box[4] / 2)


def test_openpcdets_overlap_is_near() -> None:
    rng = np.random.default_rng(3)
    found = random_boxes(rng, 20, 4.0)
    truth = random_boxes(rng, 20, 4.0)
    pairs = compared(found.tolist(), truth.tolist())
    near = boxes_iou_bev(torch.from_numpy(found), torch.from_numpy(truth)).numpy()
    np.testing.assert_allclose(pairs.bev.reshape(20, 20), near, atol=0.02)


def test_distances_are_those_on_the_ground() -> None:
    pairs = compared([moved(SQUARE, x=3, y=4, z=9)], [SQUARE])
    assert pairs.distance_m[0] == pytest.approx(5)


def test_pairs_are_of_the_same_frame_only() -> None:
    gt_annos = [labels("a", ("Car", SQUARE), ("Car", SQUARE)), labels("b"), labels("c")]
    gt_annos[2] = labels("c", ("Car", SQUARE))
    det_annos = [
        detected("a", ("Car", 0.5, SQUARE)),
        detected("b", ("Car", 0.5, SQUARE)),
        detected("c", ("Car", 0.5, SQUARE), ("Car", 0.4, moved(SQUARE, x=50))),
    ]
    frames = pair_frames(gt_annos, det_annos)
    pairs = compare_boxes(frames.detections, frames.objects)
    assert pairs.start.tolist() == [0, 2, 2]
    np.testing.assert_allclose(pairs.bev, [1, 1, 1, 0])


def test_a_detection_without_size_overlaps_nothing() -> None:
    flat = (*SQUARE[:3], 0.0, 2.0, 2.0, 0.4)
    inverted = (*SQUARE[:3], -2.0, 2.0, 2.0, 0.4)
    pairs = compared([flat, inverted], [SQUARE])
    np.testing.assert_array_equal(pairs.bev, [0, 0])
    np.testing.assert_array_equal(pairs.volume, [0, 0])
