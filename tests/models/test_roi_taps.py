"""Features of RoIs that second stages publish, and their places in the scene."""

from __future__ import annotations

import pytest
import torch
from small_model import random_scene
from small_point_rcnn import point_batch, small_point_rcnn
from small_second import second_batch, small_second
from small_two_stage import (
    part_a2_config,
    pv_rcnn_config,
    pv_rcnn_plusplus_config,
    voxel_rcnn_config,
)

from pcdet_distill.models.model_utils.places import framed_places
from pcdet_distill.models.roi_heads.pointrcnn_head import scene_places
from pcdet_distill.ops.boxes import rotate_points_along_z

TAP = "roi_head@roi_point_features"
SCENES = [random_scene(0), random_scene(1)]
MODELS = {
    "PVRCNN": lambda: (small_second(pv_rcnn_config()), second_batch(SCENES)),
    "PVRCNNPlusPlus": lambda: (small_second(pv_rcnn_plusplus_config()), second_batch(SCENES)),
    "VoxelRCNN": lambda: (small_second(voxel_rcnn_config()), second_batch(SCENES)),
    "PartA2": lambda: (small_second(part_a2_config()), second_batch(SCENES)),
    "PointRCNN": lambda: (small_point_rcnn(), point_batch(SCENES)),
}


def lies_in_a_box(place: torch.Tensor, boxes: torch.Tensor) -> bool:
    offset = place - boxes[:, :3]
    local = rotate_points_along_z(offset[:, None], -boxes[:, 6])[:, 0]
    return bool((local.abs() <= boxes[:, 3:6] / 2 + 1e-3).all(dim=1).any())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_features_and_places_of_all_rois(name: str, training: bool) -> None:
    model, batch = MODELS[name]()
    model.train(training)
    info = model.taps()[TAP]
    assert info.kind == "roi"
    assert info.stride is None
    with model.capture([TAP]) as features:
        model(batch)
    coords = batch["roi_point_coords"]
    rois = batch["rois"]
    assert features[TAP].shape == (len(coords), info.channels)
    assert features[TAP].requires_grad
    assert set(coords[:, 0].tolist()) <= {-1.0, 0.0, 1.0}
    assert (coords[:, 0] >= 0).any()
    if name == "PartA2":
        assert (coords[:, 0] >= 0).all()
        assert len(coords) < rois.shape[0] * rois.shape[1] * 64
    for row in coords[coords[:, 0] >= 0][::7]:
        assert lies_in_a_box(row[1:], rois[int(row[0])])


def test_padding_has_no_frame() -> None:
    rois = torch.tensor([[[1.0, 2, 3, 4, 5, 6, 0], [0.0] * 7]])
    rows = framed_places(rois, torch.arange(12.0).view(2, 2, 3))
    assert rows[:, 0].tolist() == [0, 0, -1, -1]
    assert rows[1, 1:].tolist() == [3, 4, 5]


def test_points_of_a_roi_return_to_the_scene() -> None:
    rois = torch.tensor([[[10.0, 5, -1, 4, 2, 2, torch.pi / 2], [3.0, 3, 3, 1, 1, 1, 0]]])
    pooled = torch.tensor([[[1.0, 0, 0.5, 0.3], [0, 1, 0, 0.3]], [[0.0, 0, 0, 0]] * 2])
    rows = scene_places(rois, pooled)
    assert rows[:, 0].tolist() == [0, 0, -1, -1]
    torch.testing.assert_close(rows[:2, 1:], torch.tensor([[10.0, 6, -0.5], [9.0, 5, -1]]))


def test_occupied_cells_of_part_a2_hold_points() -> None:
    model, batch = MODELS["PartA2"]()
    model.eval()(batch)
    rows = batch["roi_point_coords"]
    points = batch["point_coords"]
    largest_cell = batch["rois"][..., 3:6].max() / 4
    for row in rows[::5]:
        own = points[points[:, 0] == row[0], 1:]
        assert (own - row[1:]).norm(dim=1).min() <= largest_cell * 3**0.5 / 2 + 1e-3
