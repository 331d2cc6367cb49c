"""Second stages on voxels: pooling against its definition, and training of detectors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from short_training import losses_of_a_few_steps
from small_model import random_scene
from small_multi_head import make_multi
from small_second import second_batch, small_second
from small_two_stage import TWO_STAGE_CONFIGS, part_a2_config, pv_rcnn_config, second_iou_config
from torch import Tensor, nn

from pcdet_distill.errors import ConfigError
from pcdet_distill.models.roi_heads.voxelrcnn_head import NeighborVoxelSAModuleMSG
from pcdet_distill.ops.sparse_conv import SparseConvTensor
from pcdet_distill.types import BatchDict

CELL_M = 2.0
ORIGIN_M = (0.0, -8.0)


def ramp(height: int, width: int) -> Tensor:
    """A map (1, 2, H, W) whose channels are its x and y in metres."""
    x_of_columns = torch.arange(width) * CELL_M + ORIGIN_M[0]
    y_of_rows = torch.arange(height) * CELL_M + ORIGIN_M[1]
    y, x = torch.meshgrid(y_of_rows, x_of_columns, indexing="ij")
    return torch.stack([x, y])[None]


def constant_columns(values: list[float]) -> Tensor:
    """(3, 3) with the same value along each column."""
    return torch.tensor(values).expand(3, 3)


def constant_rows(values: list[float]) -> Tensor:
    """(3, 3) with the same value along each row."""
    return constant_columns(values).T


# --- SECOND-IoU


def test_second_head_samples_a_roi_on_the_map() -> None:
    head = small_second(second_iou_config()).roi_head
    straight = [6.0, -2, 0, 4, 2, 2, 0.0]
    to_the_left = [6.0, -2, 0, 4, 4, 2, math.pi / 2]
    rois = torch.tensor([[straight, to_the_left]])
    along_x, turned = head.roi_grid_pool(ramp(8, 8), rois)
    # Columns of the grid run from back to front, rows from right to left.
    x, y = along_x
    assert torch.allclose(x, constant_columns([4.0, 6, 8]), atol=1e-5)
    assert torch.allclose(y, constant_rows([-3.0, -2, -1]), atol=1e-5)
    x, y = turned
    assert torch.allclose(x, constant_rows([8.0, 6, 4]), atol=1e-5)
    assert torch.allclose(y, constant_columns([-4.0, -2, 0]), atol=1e-5)


def test_second_head_leaves_the_first_stage_alone() -> None:
    model = small_second(second_iou_config()).train()
    model(second_batch([random_scene(0)]))
    loss, _ = model.roi_head.get_loss()
    loss.backward()
    assert all(parameter.grad is None for parameter in model.backbone_2d.parameters())
    assert all(parameter.grad is not None for parameter in model.roi_head.parameters())


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [0.2, 0.4, 0.6]),
        ({"SCORE_TYPE": "iou"}, [0.2, 0.4, 0.6]),
        ({"SCORE_TYPE": "cls"}, [0.9, 0.8, 0.7]),
        # 0.25 * IoU + 0.5 * score
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
    scores = model.final_scores(iou, classes, labels, settings)
    assert scores[0].tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"SCORE_TYPE": "ious"}, "SCORE_TYPE: unknown name 'ious'; did you mean 'iou'"),
        ({"SCORE_TYPE": "num_pts_iou_cls"}, "SCORE_TYPE: unknown name 'num_pts_iou_cls'"),
        (
            {"SCORE_TYPE": "score_by_class", "SCORE_BY_CLASS": {"Car": "iou"}},
            "SCORE_BY_CLASS has no 'Pedestrian'",
        ),
    ],
)
def test_wrong_score_types_are_named(settings: dict, message: str) -> None:
    model = small_second(second_iou_config())
    rows = torch.ones(1, 1)
    with pytest.raises(ConfigError, match=message):
        model.final_scores(rows, rows, rows, settings)


def test_second_iou_returns_both_scores() -> None:
    model = small_second(second_iou_config()).eval()
    model.model_cfg.POST_PROCESSING.SCORE_THRESH = 0.0
    batch = second_batch([random_scene(0)])
    (found,), _ = model(batch)
    assert len(found["pred_boxes"])
    assert torch.equal(found["pred_scores"], found["pred_iou_scores"])
    assert found["pred_cls_scores"].max() == torch.sigmoid(batch["roi_scores"]).max()


# --- Keypoints of PV-RCNN


def test_keypoints_interpolate_the_map() -> None:
    pfe = small_second(pv_rcnn_config()).pfe
    keypoints = torch.tensor([[0, 5.0, -3.3, 0], [0, 0.1, -8, 1], [0, 13.9, 5.9, 0]])
    interpolated = pfe.interpolate_bev(keypoints, ramp(8, 8), 8)
    assert torch.allclose(interpolated, keypoints[:, 1:3], atol=1e-5)


def test_few_points_are_repeated_and_empty_frames_have_no_keypoints() -> None:
    pfe = small_second(pv_rcnn_config()).pfe
    one_point = [[0, 1.0, 2, 0, 0.5]]
    three_points = [[2, 3.0, 4, 0, 0.5], [2, 5.0, 6, 0, 0.5], [2, 30.0, 6, 0, 0.5]]
    points = torch.tensor(one_point + three_points)
    keypoints = pfe.sample_keypoints({"points": points}, 3)
    counts = torch.bincount(keypoints[:, 0].long(), minlength=3)
    assert counts.tolist() == [32, 0, 32]
    # The furthest point comes second, and then they begin again.
    x_of_last_frame = keypoints[32:, 1]
    assert x_of_last_frame[:6].tolist() == [3, 30, 5, 3, 30, 5]


def test_keypoints_from_voxel_centres() -> None:
    config = pv_rcnn_config()
    config.PFE.POINT_SOURCE = "voxel_centers"
    model = small_second(config).eval()
    batch = second_batch([random_scene(0)])
    with torch.no_grad():
        model(batch)
    lowest_corner = torch.tensor([0, -8, -3.0])
    voxel_size = torch.tensor([0.25, 0.25, 0.1])
    keypoints = batch["point_coords"][:, 1:4]
    index = (keypoints - lowest_corner) / voxel_size - 0.5
    assert torch.allclose(index, index.round(), atol=1e-3)


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


# --- Voxel R-CNN: cells of a RoI gather the voxels around them

RADIUS = 1.3
REACH = 1
SLOTS = 4


def voxels_near(
    cell: Tensor, coord: Tensor, indices: Tensor, xyz: Tensor, order: np.ndarray
) -> list[int]:
    """Voxels within REACH and RADIUS of a cell of a RoI.

    Args:
        cell: (x, y, z) of the cell.
        coord: (frame, z, y, x) of the voxel that it lies in.
        indices: of all voxels, (N, 4).
        xyz: centres of all voxels, (N, 3).
        order: in which they are visited.
    """
    near = []
    for row in order:
        same_frame = indices[row, 0] == coord[0]
        in_reach = (indices[row, 1:] - coord[1:]).abs().max() <= REACH
        in_radius = (xyz[row] - cell).norm() <= RADIUS
        if same_frame and in_reach and in_radius:
            near.append(row)
    return near


def by_slots(
    module: NeighborVoxelSAModuleMSG,
    tensor: SparseConvTensor,
    xyz: Tensor,
    cells: Tensor,
    coords: Tensor,
) -> Tensor:
    """The module by its definition: all slots are computed, also those that repeat a voxel."""
    frame, z, y, x = tensor.indices.numpy().T
    order = np.lexsort([x, y, z, frame])
    slots = []
    is_empty = []
    for cell, coord in zip(cells, coords):
        near = voxels_near(cell, coord, tensor.indices, xyz, order)
        is_empty.append(not near)
        # The first voxel repeats in the slots that are left.
        first = near[0] if near else 0
        filled = near + [first] * SLOTS
        slots.append(filled[:SLOTS])
    rows = torch.tensor(np.array(slots))
    empty = torch.tensor(is_empty)[:, None, None]

    offset = (xyz[rows] - cells[:, None]).masked_fill(empty, 0)
    convolution, norm = module.mlps_pos[0]
    position = convolution(offset.flatten(0, 1))
    position = F.batch_norm(position, None, None, weight=norm.weight, bias=norm.bias, training=True)
    features = module.mlps_in[0](tensor.features)[rows].masked_fill(empty, 0)
    summed = features + position.view(len(cells), SLOTS, -1)
    return module.mlps_out[0](torch.relu(summed).amax(dim=1))


def test_cells_of_a_roi_gather_the_voxels_around_them() -> None:
    torch.manual_seed(0)
    shape = [5, 6, 7]
    indices = torch.nonzero(torch.rand(2, *shape) < 0.2).int()
    indices = indices[torch.randperm(len(indices))]
    tensor = SparseConvTensor(torch.randn(len(indices), 3), indices, shape, 2)
    # Voxels are 1 m wide.
    xyz = indices[:, 1:].flip(1).float() + 0.5
    cells = torch.rand(60, 3) * 9 - 1
    frames = torch.arange(60)[:, None] // 30
    coords = torch.cat([frames, cells.floor().flip(1).long()], dim=1)
    module = NeighborVoxelSAModuleMSG(
        query_ranges=[[REACH] * 3], radii=[RADIUS], nsamples=[SLOTS], mlps=[[3, 8, 5]]
    ).train()
    nn.init.normal_(module.mlps_pos[0][1].bias)

    found = module(tensor, xyz, cells, coords)
    assert found.shape == (60, 5)
    expected = by_slots(module, tensor, xyz, cells, coords)
    assert torch.allclose(found, expected, atol=1e-4)


# --- Part-A2: pooling of parts and features


def part_batch() -> BatchDict:
    """A foreground and a background point in one cell of a RoI; another RoI without points."""
    roi = [1.0, 0, 0, 8, 8, 8, 0]
    far_away = [50.0, 0, 0, 8, 8, 8, 0]
    foreground = [0, 1.0, 0, 0]
    background = [0, 1.2, 0, 0]
    of_other_frame = [1, 1.0, 0, 0]
    return {
        "rois": torch.tensor([[roi], [far_away]]),
        "point_coords": torch.tensor([foreground, background, of_other_frame]),
        "point_cls_scores": torch.tensor([0.9, 0.1, 0.9]),
        "point_part_offset": torch.full((3, 3), 0.5),
        "point_features": torch.tensor([[1.0], [3.0], [9.0]]),
    }


def test_parts_of_background_points_do_not_count() -> None:
    head = small_second(part_a2_config()).roi_head
    parts, features = head.roiaware_pool(part_batch())
    assert parts.shape == (2, 4, 4, 4, 4)
    assert features.shape == (2, 4, 4, 4, 1)
    # The mean of part 0.5 and 0, and of scores 0.9 and 0.1; the maximum of features 1 and 3.
    assert parts[0, 2, 2, 2].tolist() == pytest.approx([0.25, 0.25, 0.25, 0.5])
    assert features[0, 2, 2, 2].item() == 3
    assert (parts[1] == 0).all()
    assert (features[1] == 0).all()


def test_parts_can_be_disabled() -> None:
    head = small_second(part_a2_config()).roi_head
    head.model_cfg["DISABLE_PART"] = True
    parts, _ = head.roiaware_pool(part_batch())
    assert parts[0, 2, 2, 2].tolist() == pytest.approx([0.5, 0, 0, 0.5])


# --- Whole detectors


def losses_of_a_training(name: str) -> list[float]:
    """Losses of twelve steps on two scenes, with fresh batches."""
    model = small_second(TWO_STAGE_CONFIGS[name]()).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(12):
        ret, _, _ = model(second_batch([random_scene(0), random_scene(1)]))
        optimizer.zero_grad()
        ret["loss"].backward()
        optimizer.step()
        losses.append(ret["loss"].item())
    return losses


@pytest.mark.parametrize("name", TWO_STAGE_CONFIGS)
def test_training_lowers_the_loss_and_repeats_with_the_seed(name: str) -> None:
    losses = losses_of_a_training(name)
    assert losses[-1] < 0.7 * losses[0]
    assert losses_of_a_training(name) == losses


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
    for frame in found:
        assert set(frame["pred_labels"].tolist()) <= {1, 2, 3}


def test_keypoints_can_be_tapped() -> None:
    tap = small_second(pv_rcnn_config()).taps()["pfe@point_features"]
    assert tap.channels == 12
    assert tap.kind == "point"


def test_heads_with_separate_classes_make_no_proposals() -> None:
    config = second_iou_config()
    make_multi(config.DENSE_HEAD, SEPARATE_MULTIHEAD=True)
    with pytest.raises(ConfigError, match="SEPARATE_MULTIHEAD is true, but a ROI_HEAD"):
        small_second(config)


def test_heads_with_all_classes_make_proposals_and_train() -> None:
    config = second_iou_config()
    make_multi(config.DENSE_HEAD, SEPARATE_MULTIHEAD=False)
    model = small_second(config).train()
    losses = losses_of_a_few_steps(model, second_batch([random_scene(0)]), steps=6)
    assert losses[-1] < losses[0]
