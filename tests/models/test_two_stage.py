"""Second stages on voxels: pooling against its definition, and training of detectors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from short_training import losses_of_a_few_steps
from small_model import random_scene
from small_multi_head import make_multi
from small_second import second_batch, small_second
from small_two_stage import TWO_STAGE_CONFIGS, part_a2_config, pv_rcnn_config, second_iou_config
from torch import nn

from pcdet_distill.errors import ConfigError
from pcdet_distill.models.roi_heads.voxelrcnn_head import NeighborVoxelSAModuleMSG
from pcdet_distill.ops.sparse_conv import SparseConvTensor

CELL_M = 2.0
ORIGIN_M = (0.0, -8.0)


def ramp(height: int, width: int) -> torch.Tensor:
    """A map (1, 2, H, W) whose channels are its x and y in metres."""
    y, x = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
    return torch.stack([x * CELL_M + ORIGIN_M[0], y * CELL_M + ORIGIN_M[1]])[None]


def test_second_head_samples_a_roi_on_the_map() -> None:
    head = small_second(second_iou_config()).roi_head
    rois = torch.tensor([[[6.0, -2, 0, 4, 2, 2, 0.0], [6.0, -2, 0, 4, 4, 2, math.pi / 2]]])
    along_x, turned = head.roi_grid_pool(ramp(8, 8), rois)
    assert torch.allclose(along_x[0], torch.tensor([4.0, 6, 8]).expand(3, 3), atol=1e-5)
    assert torch.allclose(
        along_x[1], torch.tensor([-3.0, -2, -1]).view(3, 1).expand(3, 3), atol=1e-5
    )
    assert torch.allclose(turned[0], torch.tensor([8.0, 6, 4]).view(3, 1).expand(3, 3), atol=1e-5)
    assert torch.allclose(turned[1], torch.tensor([-4.0, -2, 0]).expand(3, 3), atol=1e-5)


def test_second_head_leaves_the_first_stage_alone() -> None:
    model = small_second(second_iou_config()).train()
    model(second_batch([random_scene(0)]))
    model.roi_head.get_loss()[0].backward()
    assert all(parameter.grad is None for parameter in model.backbone_2d.parameters())
    assert all(parameter.grad is not None for parameter in model.roi_head.parameters())


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [0.2, 0.4, 0.6]),
        ({"SCORE_TYPE": "iou"}, [0.2, 0.4, 0.6]),
        ({"SCORE_TYPE": "cls"}, [0.9, 0.8, 0.7]),
        (
            {"SCORE_TYPE": "weighted_iou_cls", "SCORE_WEIGHTS": {"iou": 0.25, "cls": 0.5}},
            [0.5, 0.5, 0.5],
        ),
        (
            {
                "SCORE_TYPE": "score_by_class",
                "SCORE_BY_CLASS": {"Car": "cls", "Pedestrian": "iou", "Cyclist": "cls"},
            },
            [0.9, 0.4, 0.7],
        ),
    ],
)
def test_scores_of_second_iou(settings: dict, expected: list[float]) -> None:
    model = small_second(second_iou_config())
    iou = torch.tensor([[0.2, 0.4, 0.6]])
    classes = torch.tensor([[0.9, 0.8, 0.7]])
    labels = torch.tensor([[1, 2, 3]])
    assert model.final_scores(iou, classes, labels, settings)[0].tolist() == pytest.approx(expected)


def test_wrong_score_types_are_named() -> None:
    model = small_second(second_iou_config())
    rows = torch.ones(1, 1)
    with pytest.raises(ConfigError, match="SCORE_TYPE: unknown name 'ious'; did you mean 'iou'"):
        model.final_scores(rows, rows, rows, {"SCORE_TYPE": "ious"})
    with pytest.raises(ConfigError, match="SCORE_TYPE: unknown name 'num_pts_iou_cls'"):
        model.final_scores(rows, rows, rows, {"SCORE_TYPE": "num_pts_iou_cls"})
    with pytest.raises(ConfigError, match="SCORE_BY_CLASS has no 'Pedestrian'"):
        model.final_scores(
            rows, rows, rows, {"SCORE_TYPE": "score_by_class", "SCORE_BY_CLASS": {"Car": "iou"}}
        )


def test_second_iou_returns_both_scores() -> None:
    model = small_second(second_iou_config()).eval()
    model.model_cfg.POST_PROCESSING.SCORE_THRESH = 0.0
    batch = second_batch([random_scene(0)])
    (found,), _ = model(batch)
    assert len(found["pred_boxes"])
    assert torch.equal(found["pred_scores"], found["pred_iou_scores"])
    assert found["pred_cls_scores"].max() == torch.sigmoid(batch["roi_scores"]).max()


def test_keypoints_interpolate_the_map() -> None:
    pfe = small_second(pv_rcnn_config()).pfe
    keypoints = torch.tensor([[0, 5.0, -3.3, 0], [0, 0.1, -8, 1], [0, 13.9, 5.9, 0]])
    interpolated = pfe.interpolate_bev(keypoints, ramp(8, 8), 8)
    assert torch.allclose(interpolated, keypoints[:, 1:3], atol=1e-5)


def test_few_points_are_repeated_and_empty_frames_have_no_keypoints() -> None:
    pfe = small_second(pv_rcnn_config()).pfe
    points = torch.tensor(
        [[0, 1.0, 2, 0, 0.5], [2, 3.0, 4, 0, 0.5], [2, 5.0, 6, 0, 0.5], [2, 30.0, 6, 0, 0.5]]
    )
    keypoints = pfe.sample_keypoints({"points": points}, 3)
    assert torch.bincount(keypoints[:, 0].long(), minlength=3).tolist() == [32, 0, 32]
    assert keypoints[32:38, 1].tolist() == [3, 30, 5, 3, 30, 5]


def test_keypoints_from_voxel_centres() -> None:
    config = pv_rcnn_config()
    config.PFE.POINT_SOURCE = "voxel_centers"
    model = small_second(config).eval()
    batch = second_batch([random_scene(0)])
    with torch.no_grad():
        model(batch)
    offset = (batch["point_coords"][:, 1:4] - torch.tensor([0, -8, -3.0])) / torch.tensor(
        [0.25, 0.25, 0.1]
    ) - 0.5
    assert torch.allclose(offset, offset.round(), atol=1e-3)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("SAMPLE_METHOD", "FFPS", "SAMPLE_METHOD is 'FFPS', expected FPS or SPC"),
        (
            "POINT_SOURCE",
            "points",
            "POINT_SOURCE is 'points', expected raw_points or voxel_centers",
        ),
        ("FEATURES_SOURCE", ["bev", "x_conv5"], "unknown source 'x_conv5'; did you mean"),
        ("FEATURES_SOURCE", ["raw_point"], "unknown source 'raw_point'; did you mean 'raw_points'"),
    ],
)
def test_wrong_settings_of_keypoints_are_named(key: str, value: object, message: str) -> None:
    config = pv_rcnn_config()
    config.PFE[key] = value
    with pytest.raises(ConfigError, match=message):
        small_second(config)


def brute_neighbours(
    module: NeighborVoxelSAModuleMSG,
    tensor: SparseConvTensor,
    xyz: torch.Tensor,
    *,
    cells: torch.Tensor,
    coords: torch.Tensor,
    reach: int,
    radius: float,
    slots: int,
) -> torch.Tensor:
    """The module by its definition: all slots are computed, also those that repeat a voxel."""
    features = module.mlps_in[0](tensor.features)
    rows = []
    empty = []
    for cell, coord in zip(cells, coords):
        near = []
        for row in np.lexsort(tensor.indices.numpy().T[::-1]):
            same_frame = tensor.indices[row, 0] == coord[0]
            in_reach = (tensor.indices[row, 1:] - coord[1:]).abs().max() <= reach
            in_radius = (xyz[row] - cell).norm() <= radius
            if same_frame and in_reach and in_radius:
                near.append(row)
        empty.append(not near)
        # The first voxel repeats in the slots that are left.
        first = near[0] if near else 0
        rows.append((near + [first] * slots)[:slots])
    rows = torch.tensor(np.array(rows))
    empty = torch.tensor(empty)
    offset = (xyz[rows] - cells[:, None]).masked_fill(empty[:, None, None], 0)
    convolution, norm = module.mlps_pos[0]
    position = nn.functional.batch_norm(
        convolution(offset.flatten(0, 1)), None, None, norm.weight, norm.bias, True
    )
    summed = features[rows].masked_fill(empty[:, None, None], 0) + position.view(
        len(cells), slots, -1
    )
    return module.mlps_out[0](torch.relu(summed).amax(dim=1))


def test_cells_of_a_roi_gather_the_voxels_around_them() -> None:
    torch.manual_seed(0)
    indices = torch.nonzero(torch.rand(2, 5, 6, 7) < 0.2).int()
    indices = indices[torch.randperm(len(indices))]
    tensor = SparseConvTensor(torch.randn(len(indices), 3), indices, [5, 6, 7], 2)
    xyz = indices[:, 1:].flip(1).float() + 0.5
    cells = torch.rand(60, 3) * 9 - 1
    coords = torch.cat([torch.arange(60)[:, None] // 30, cells.floor().flip(1).long()], dim=1)
    module = NeighborVoxelSAModuleMSG(
        query_ranges=[[1, 1, 1]], radii=[1.3], nsamples=[4], mlps=[[3, 8, 5]]
    ).train()
    nn.init.normal_(module.mlps_pos[0][1].bias)
    found = module(tensor, xyz, cells, coords)
    expected = brute_neighbours(
        module, tensor, xyz, cells=cells, coords=coords, reach=1, radius=1.3, slots=4
    )
    assert found.shape == (60, 5)
    assert torch.allclose(found, expected, atol=1e-4)


def test_parts_of_background_points_do_not_count() -> None:
    head = small_second(part_a2_config()).roi_head
    coords = torch.tensor([[0, 1.0, 0, 0], [0, 1.2, 0, 0], [1, 1.0, 0, 0]])
    batch = {
        "rois": torch.tensor([[[1.0, 0, 0, 8, 8, 8, 0]], [[50.0, 0, 0, 8, 8, 8, 0]]]),
        "point_coords": coords,
        "point_cls_scores": torch.tensor([0.9, 0.1, 0.9]),
        "point_part_offset": torch.full((3, 3), 0.5),
        "point_features": torch.tensor([[1.0], [3.0], [9.0]]),
    }
    parts, features = head.roiaware_pool(batch)
    assert parts.shape == (2, 4, 4, 4, 4)
    assert features.shape == (2, 4, 4, 4, 1)
    assert parts[0, 2, 2, 2].tolist() == pytest.approx([0.25, 0.25, 0.25, 0.5])
    assert features[0, 2, 2, 2].item() == 3
    assert (parts[1] == 0).all()
    assert (features[1] == 0).all()
    head.model_cfg["DISABLE_PART"] = True
    parts, _ = head.roiaware_pool(batch)
    assert parts[0, 2, 2, 2].tolist() == pytest.approx([0.5, 0, 0, 0.5])


@pytest.mark.parametrize("name", TWO_STAGE_CONFIGS)
def test_training_lowers_the_loss_and_repeats_with_the_seed(name: str) -> None:
    scenes = [random_scene(0), random_scene(1)]
    losses = []
    for _ in range(2):
        model = small_second(TWO_STAGE_CONFIGS[name]()).train()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        losses.append([])
        for _ in range(12):
            ret, _, _ = model(second_batch(scenes))
            optimizer.zero_grad()
            ret["loss"].backward()
            optimizer.step()
            losses[-1].append(ret["loss"].item())
    assert losses[0] == losses[1]
    assert losses[0][-1] < 0.7 * losses[0][0]


@pytest.mark.parametrize("name", TWO_STAGE_CONFIGS)
def test_evaluation_gives_boxes_of_refined_proposals(name: str) -> None:
    model = small_second(TWO_STAGE_CONFIGS[name]()).eval()
    model.model_cfg.POST_PROCESSING.SCORE_THRESH = 0.0
    batch = second_batch([random_scene(0), random_scene(1)])
    found, recall = model(batch)
    assert batch["batch_cls_preds"].shape == (2, 24, 1)
    assert batch["batch_box_preds"].shape == (2, 24, 7)
    assert all(len(frame["pred_boxes"]) for frame in found)
    assert {"gt", "roi_0.3", "rcnn_0.3"} < set(recall)
    assert set(torch.cat([frame["pred_labels"] for frame in found]).tolist()) <= {1, 2, 3}


def test_keypoints_can_be_tapped() -> None:
    taps = small_second(pv_rcnn_config()).taps()
    assert taps["pfe@point_features"].channels == 12
    assert taps["pfe@point_features"].kind == "point"


def test_heads_with_separate_classes_make_no_proposals() -> None:
    config = second_iou_config()
    make_multi(config.DENSE_HEAD, SEPARATE_MULTIHEAD=True)
    with pytest.raises(ConfigError, match="SEPARATE_MULTIHEAD is true, but a ROI_HEAD"):
        small_second(config)


def test_heads_with_all_classes_make_proposals_and_train() -> None:
    config = second_iou_config()
    make_multi(config.DENSE_HEAD, SEPARATE_MULTIHEAD=False)
    losses = losses_of_a_few_steps(
        small_second(config).train(), second_batch([random_scene(0)]), steps=6
    )
    assert losses[-1] < losses[0]
