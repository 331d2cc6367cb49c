"""Targets of the centre head: cells, codes and heatmaps by hand."""

from __future__ import annotations

import math

import pytest
import torch
from center_cases import (
    CAR,
    CELL_OF_CAR,
    CELL_OF_PEDESTRIAN,
    NUM_COLUMNS,
    PADDING,
    PEDESTRIAN,
    labelled,
    make_head,
    one_frame,
    targets_of,
)
from small_center import center_head_config


def peaks_of(heatmap: torch.Tensor) -> list[list[int]]:
    """(class, row, column) of cells of height 1."""
    return (heatmap == 1).nonzero().tolist()


def test_cells_of_boxes_by_hand() -> None:
    (targets,) = targets_of(make_head(), one_frame(CAR, PEDESTRIAN))
    assert targets.heatmap.shape == (1, 3, 16, 16)
    assert targets.boxes.shape == (1, 20, 8)
    assert targets.cells[0, :2].tolist() == [CELL_OF_CAR, CELL_OF_PEDESTRIAN]
    assert targets.mask[0].tolist() == [True, True] + [False] * 18


def test_codes_by_hand() -> None:
    (targets,) = targets_of(make_head(), one_frame(CAR, PEDESTRIAN))
    car, pedestrian = targets.boxes[0, :2]
    # x 4.3 m lies 0.3 inside its cell, y 2.6 + 8 = 10.6 m lies 0.6 inside.
    sizes = [math.log(3.9), math.log(1.6), math.log(1.56)]
    heading = [math.cos(0.4), math.sin(0.4)]
    assert car.tolist() == pytest.approx([0.3, 0.6, -0.9, *sizes, *heading], abs=1e-5)
    assert pedestrian[:2].tolist() == pytest.approx([0.5, 0.75], abs=1e-5)


def test_heatmaps_by_hand() -> None:
    (targets,) = targets_of(make_head(), one_frame(CAR, PEDESTRIAN))
    cars, pedestrians, cyclists = targets.heatmap[0]
    assert peaks_of(targets.heatmap[0]) == [[0, 10, 4], [1, 3, 10]]
    assert cyclists.sum() == 0
    # Both radii are below MIN_RADIUS 2: peaks 5 cells wide.
    assert (cars > 0).sum() == 25
    assert (pedestrians > 0).sum() == 25


def test_the_radius_follows_the_size() -> None:
    # 12 x 8 cells: the third case gives (-4 + sqrt(16 + 1.6 * 86.4)) / 2 = 4.2, so a peak 9 wide.
    big = [8, 0, 0, 12, 8, 2, 0, 1]
    (targets,) = targets_of(make_head(), one_frame(big))
    assert (targets.heatmap[0, 0] > 0).sum() == 81


def test_overlap_and_smallest_radius_by_config() -> None:
    config = center_head_config()
    config.TARGET_ASSIGNER_CONFIG.update(MIN_RADIUS=1, GAUSSIAN_OVERLAP=0.9)
    (targets,) = targets_of(make_head(config), one_frame(CAR))
    assert (targets.heatmap > 0).sum() == 9


def test_each_head_has_the_targets_of_its_classes() -> None:
    head = make_head(center_head_config([["Cyclist", "Car"], ["Pedestrian"]]))
    cyclist = labelled(CAR, 3)
    cyclist[1] = -5
    first, second = targets_of(head, one_frame(PEDESTRIAN, CAR, cyclist))
    cell_of_cyclist = 3 * NUM_COLUMNS + 4

    # Cyclists are the first class of the first head; its boxes keep their order in the frame.
    assert first.heatmap.shape[1] == 2
    assert peaks_of(first.heatmap[0]) == [[0, 3, 4], [1, 10, 4]]
    assert first.cells[0, :2].tolist() == [CELL_OF_CAR, cell_of_cyclist]
    assert first.mask.sum() == 2

    assert second.heatmap.shape[1] == 1
    assert second.mask.sum() == 1
    assert second.cells[0, 0] == CELL_OF_PEDESTRIAN


def test_flat_boxes_take_a_slot_but_are_not_learnt() -> None:
    flat = [5, 5, 0, 0, 2, 1, 0, 1]
    (targets,) = targets_of(make_head(), one_frame(flat, CAR, PADDING))
    assert targets.mask[0, :3].tolist() == [False, True, False]
    assert torch.isfinite(targets.boxes).all()


def test_boxes_beyond_the_map_move_to_the_nearest_cell() -> None:
    beyond_the_corner = [17.5, -9, 0, 4, 2, 1, 0, 1]
    (targets,) = targets_of(make_head(), one_frame(beyond_the_corner))
    assert targets.mask[0, 0]
    assert targets.cells[0, 0] == 15
    assert targets.boxes[0, 0, :2].tolist() == [0.5, 0.0]
    assert torch.isfinite(targets.boxes).all()


def test_number_of_boxes_is_limited() -> None:
    config = center_head_config()
    config.TARGET_ASSIGNER_CONFIG.NUM_MAX_OBJS = 2
    cyclist = [8, 0, 0, 2, 2, 2, 0, 3]
    (targets,) = targets_of(make_head(config), one_frame(CAR, PEDESTRIAN, cyclist))
    assert targets.mask.tolist() == [[True, True]]
    assert targets.heatmap[0, 2].sum() == 0


def test_frames_do_not_mix() -> None:
    head = make_head()
    first = one_frame(CAR, PADDING)
    second = one_frame(PEDESTRIAN, labelled(CAR, 3))
    (both,) = targets_of(head, torch.cat([first, second]))
    for frame, alone in enumerate((first, second)):
        (targets,) = targets_of(head, alone)
        for together, expected in zip(both, targets):
            assert torch.equal(together[frame], expected[0])
