"""Features of RoIs that second stages publish, and their places in the scene."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from easydict import EasyDict
from small_model import random_scene
from small_point_rcnn import point_batch, small_point_rcnn
from small_second import second_batch, small_second
from small_two_stage import (
    part_a2_config,
    pv_rcnn_config,
    pv_rcnn_plusplus_config,
    voxel_rcnn_config,
)

from pcdet_distill.models import Detector3DTemplate
from pcdet_distill.models.model_utils.places import framed_places
from pcdet_distill.models.roi_heads.pointrcnn_head import scene_places
from pcdet_distill.ops.boxes import rotate_points_along_z

TAP = "roi_head@roi_point_features"
SCENES = [random_scene(0), random_scene(1)]
VOXEL_CONFIGS: dict[str, Callable[[], EasyDict]] = {
    "PVRCNN": pv_rcnn_config,
    "PVRCNNPlusPlus": pv_rcnn_plusplus_config,
    "VoxelRCNN": voxel_rcnn_config,
    "PartA2": part_a2_config,
}
NO_FRAME = -1


def model_and_batch(name: str) -> tuple[Detector3DTemplate, dict[str, Any]]:
    """A small detector of this name, and a batch of SCENES for it."""
    if name == "PointRCNN":
        return small_point_rcnn(), point_batch(SCENES)
    config = VOXEL_CONFIGS[name]()
    return small_second(config), second_batch(SCENES)


def lies_in_a_box(place: torch.Tensor, boxes: torch.Tensor) -> bool:
    """Whether a place (3,) lies in one of the boxes (G, 7)."""
    offsets = place - boxes[:, :3]
    turned_back = rotate_points_along_z(offsets[:, None], -boxes[:, 6])
    local = turned_back[:, 0]
    half_sizes = boxes[:, 3:6] / 2
    inside = (local.abs() <= half_sizes + 1e-3).all(dim=1)
    return bool(inside.any())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", [*VOXEL_CONFIGS, "PointRCNN"])
def test_features_and_places_of_all_rois(name: str, training: bool) -> None:
    model, batch = model_and_batch(name)
    model.train(training)
    info = model.taps()[TAP]
    assert info.kind == "roi"
    assert info.stride is None

    with model.capture([TAP]) as features:
        model(batch)
    coords = batch["roi_point_coords"]
    assert features[TAP].shape == (len(coords), info.channels)
    assert features[TAP].requires_grad

    frames = coords[:, 0]
    in_a_frame = frames >= 0
    assert set(frames.tolist()) <= {NO_FRAME, 0, 1}
    assert in_a_frame.any()

    rois = batch["rois"]
    every_seventh = coords[in_a_frame][::7]
    for frame, *place in every_seventh.tolist():
        assert lies_in_a_box(torch.tensor(place), rois[int(frame)])


@pytest.mark.parametrize("training", [True, False])
def test_part_a2_publishes_occupied_cells_alone(training: bool) -> None:
    model, batch = model_and_batch("PartA2")
    model.train(training)
    model(batch)
    coords = batch["roi_point_coords"]
    num_frames, rois_per_frame, _ = batch["rois"].shape
    cells_per_roi = 4**3
    assert (coords[:, 0] >= 0).all()
    assert len(coords) < num_frames * rois_per_frame * cells_per_roi


def test_occupied_cells_of_part_a2_hold_points() -> None:
    model, batch = model_and_batch("PartA2")
    model.eval()(batch)
    points = batch["point_coords"]
    # A RoI has 4 cells along each axis. No point of a cell is further from its centre than
    # half the diagonal of a cube with the longest edge of all cells.
    longest_edge = batch["rois"][..., 3:6].max() / 4
    half_diagonal = longest_edge * 3**0.5 / 2

    every_fifth = batch["roi_point_coords"][::5]
    for row in every_fifth:
        frame, place = row[0], row[1:]
        points_of_frame = points[points[:, 0] == frame, 1:]
        distances = (points_of_frame - place).norm(dim=1)
        assert distances.min() <= half_diagonal + 1e-3


def test_padding_has_no_frame() -> None:
    roi = [1.0, 2, 3, 4, 5, 6, 0]
    padding = [0.0] * 7
    places = torch.arange(12.0).view(2, 2, 3)
    rows = framed_places(torch.tensor([[roi, padding]]), places)
    assert rows[:, 0].tolist() == [0, 0, NO_FRAME, NO_FRAME]
    assert rows[1, 1:].tolist() == [3, 4, 5]


def test_points_of_a_roi_return_to_the_scene() -> None:
    to_the_left = [10.0, 5, -1, 4, 2, 2, torch.pi / 2]
    without_points = [3.0, 3, 3, 1, 1, 1, 0]
    rois = torch.tensor([[to_the_left, without_points]])
    ahead = [1.0, 0, 0.5, 0.3]
    beside = [0.0, 1, 0, 0.3]
    nothing = [0.0, 0, 0, 0]
    pooled = torch.tensor([[ahead, beside], [nothing, nothing]])

    rows = scene_places(rois, pooled)
    assert rows[:, 0].tolist() == [0, 0, NO_FRAME, NO_FRAME]
    # The RoI looks along y: ahead is +y, its left is -x.
    expected = torch.tensor([[10.0, 6, -0.5], [9.0, 5, -1]])
    torch.testing.assert_close(rows[:2, 1:], expected)
