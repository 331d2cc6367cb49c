"""A small PointRCNN: training, evaluation, taps, students, and nearly empty frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_model import CLASS_NAMES, random_scene
from small_point_rcnn import (
    NUM_POINTS,
    point_batch,
    point_rcnn_config,
    small_point_rcnn,
    two_scenes,
)
from torch import nn

from pcdet_distill.config import load_config
from pcdet_distill.datasets.spec import DataSpec
from pcdet_distill.errors import ConfigError
from pcdet_distill.models import build_network

NO_BOXES = np.zeros((0, 8), np.float32)
NOTHING = (np.zeros((0, 4), np.float32), NO_BOXES)
ONE_POINT = (np.array([[5, 0, -1, 0.5]], np.float32), NO_BOXES)


def test_a_training_step_reaches_every_parameter() -> None:
    model = small_point_rcnn().train()
    ret, tb_dict, _ = model(point_batch(two_scenes()))
    assert set(tb_dict) == {
        "point_loss_cls",
        "point_loss_box",
        "point_pos_num",
        "rcnn_loss_cls",
        "rcnn_loss_reg",
        "rcnn_loss_corner",
        "rcnn_loss",
    }
    expected = tb_dict["point_loss_cls"] + tb_dict["point_loss_box"] + tb_dict["rcnn_loss"]
    assert ret["loss"].item() == pytest.approx(float(expected), rel=1e-5)
    ret["loss"].backward()
    for parameter in model.parameters():
        assert torch.isfinite(parameter.grad).all()


def test_the_second_stage_sends_no_gradient_to_the_first() -> None:
    model = small_point_rcnn().train()
    model(point_batch(two_scenes()))
    loss, _ = model.roi_head.get_loss()
    loss.backward()
    assert all(parameter.grad is None for parameter in model.backbone_3d.parameters())
    assert all(parameter.grad is None for parameter in model.point_head.parameters())


def test_evaluation_gives_boxes_and_recall() -> None:
    model = small_point_rcnn().eval()
    batch = point_batch(two_scenes())
    with torch.no_grad():
        predictions, recall = model(batch)
    assert len(predictions) == 2
    assert recall["gt"] == 5
    assert batch["rois"].shape == (2, 24, 7)
    assert batch["batch_cls_preds"].shape == (2, 24, 1)
    for prediction in predictions:
        assert prediction["pred_boxes"].shape[1] == 7
        assert prediction["pred_labels"].min() >= 1
        assert torch.isfinite(prediction["pred_boxes"]).all()


def test_pooled_points_are_relative_to_their_roi() -> None:
    """A RoI around one point: its place along the RoI's axes, its score, depth and features."""
    point_in_roi = [0.0, 3, 5, 1]
    other_point = [0.0, 40, 0, 0]
    roi = [3.0, 4, 1, 4, 2, 2, torch.pi / 2]
    empty_roi = [20.0, 20, 20, 1, 1, 1, 0]
    batch = {
        "point_coords": torch.tensor([point_in_roi, other_point]),
        "point_cls_scores": torch.tensor([0.25, 0.75]),
        "batch_size": 1,
        "point_features": torch.arange(32.0).view(2, 16),
        "rois": torch.tensor([[roi, empty_roi]]),
    }
    pooled = small_point_rcnn().roi_head.roipool3d(batch)
    # Place, score, depth and features of 32 sampled points.
    assert pooled.shape == (1, 2, 32, 3 + 1 + 1 + 16)
    # The RoI looks along y, and the point stands 1 m ahead of its middle.
    place = [1, 0, 0]
    depth_m = (3**2 + 5**2 + 1**2) ** 0.5
    expected = torch.tensor([*place, 0.25, depth_m / 70 - 0.5, *range(16)])
    torch.testing.assert_close(pooled[0, 0], expected.expand(32, -1), atol=1e-6, rtol=1e-5)
    assert (pooled[0, 1] == 0).all()


def test_frames_do_not_mix() -> None:
    model = small_point_rcnn().eval()
    both = point_batch(two_scenes())
    second_alone = point_batch(two_scenes()[1:])
    with torch.no_grad():
        model(both)
        model(second_alone)
    features_of_second = both["point_features"][NUM_POINTS:]
    torch.testing.assert_close(
        features_of_second, second_alone["point_features"], rtol=1e-4, atol=1e-5
    )
    boxes_of_second = both["batch_box_preds"][1:]
    torch.testing.assert_close(
        boxes_of_second, second_alone["batch_box_preds"], rtol=1e-4, atol=1e-4
    )


def test_taps_have_the_channels_they_publish() -> None:
    model = small_point_rcnn().eval()
    taps = model.taps()
    assert "backbone_3d@point_features" in taps
    assert "point_head.cls_layers" in taps
    assert "point_head.box_layers" in taps
    with model.capture(list(taps)) as features, torch.no_grad():
        model(point_batch(two_scenes()))
    for path, info in taps.items():
        assert info.stride is None
        if path != "roi_head@roi_point_features":
            assert info.kind == "point"
            assert features[path].shape == (2 * NUM_POINTS, info.channels)


POINTS_WITHOUT_BOXES = (random_scene(0)[0], NO_BOXES)
# Scenes, and the number of points sampled of each; None for all of them.
NEARLY_EMPTY = {
    "nothing": ([NOTHING, NOTHING], None),
    "one point": ([ONE_POINT], None),
    "one point each": ([ONE_POINT] * 2, None),
    "empty last frame": ([random_scene(0), NOTHING], None),
    "empty first frame": ([NOTHING, random_scene(0)], None),
    "sampled nothing": ([NOTHING, NOTHING], 256),
    "sampled one point": ([ONE_POINT, random_scene(0)], 256),
    "no object": ([POINTS_WITHOUT_BOXES] * 2, 256),
    "uneven frames": (two_scenes(), None),
}


@pytest.mark.parametrize("case", NEARLY_EMPTY)
def test_nearly_empty_frames(case: str) -> None:
    scenes, num_points = NEARLY_EMPTY[case]
    model = small_point_rcnn().train()
    ret, tb_dict, _ = model(point_batch(scenes, num_points))
    assert torch.isfinite(ret["loss"])
    for part in tb_dict.values():
        assert torch.isfinite(part.float())
    ret["loss"].backward()
    for parameter in model.parameters():
        if parameter.grad is not None:
            assert torch.isfinite(parameter.grad).all()
    with torch.no_grad():
        predictions, _ = model.eval()(point_batch(scenes, num_points))
    assert len(predictions) == len(scenes)
    for prediction in predictions:
        for value in prediction.values():
            assert torch.isfinite(value).all()


def test_the_second_stage_of_point_rcnn_iou_learns_soft_labels() -> None:
    config = point_rcnn_config()
    config.ROI_HEAD.TARGET_CONFIG.update(
        CLS_SCORE_TYPE="roi_iou", CLS_FG_THRESH=0.7, CLS_BG_THRESH=0.25
    )
    model = small_point_rcnn(config).train()
    ret, _, _ = model(point_batch(two_scenes()))
    assert torch.isfinite(ret["loss"])
    assert model.roi_head.forward_ret_dict["rcnn_cls_labels"].dtype == torch.float32


@pytest.mark.parametrize(
    "block, key, value, message",
    [
        ("BACKBONE_3D", "FP_MLPS", [[16, 16]], "FP_MLPS has 1"),
        (
            "ROI_HEAD",
            "SA_CONFIG",
            {"NPOINTS": [8], "RADIUS": [1], "NSAMPLE": [4]},
            "MODEL.ROI_HEAD.SA_CONFIG.MLPS",
        ),
        ("ROI_HEAD", "ROI_POINT_POOL", {"POOL_EXTRA_WIDTH": [0, 0, 0]}, "NUM_SAMPLED_POINTS"),
    ],
)
def test_wrong_settings_are_named(block: str, key: str, value: object, message: str) -> None:
    config = point_rcnn_config()
    config[block][key] = value
    with pytest.raises(ConfigError, match=message):
        small_point_rcnn(config)


def build(path: Path) -> nn.Module:
    """The detector of a yaml file."""
    cfg = load_config(path)
    spec = DataSpec.from_config(cfg.DATA_CONFIG, CLASS_NAMES)
    return build_network(cfg.MODEL, len(CLASS_NAMES), spec)


def num_parameters(model: nn.Module) -> int:
    """How many numbers a model learns."""
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("factor", [4, 8, 16])
def test_students_have_the_teachers_names_and_a_fraction_of_its_parameters(
    repo: Path, factor: int
) -> None:
    teacher = build(repo / "cfgs/kitti_models/pointrcnn.yaml")
    student = build(repo / f"cfgs/kitti_distill/pointrcnn_{factor}x.yaml")
    assert list(student.state_dict()) == list(teacher.state_dict())
    ratio = num_parameters(teacher) / num_parameters(student)
    assert ratio == pytest.approx(factor, rel=0.05)


@pytest.mark.slow
def test_overfits_two_scenes() -> None:
    """The small detector finds every object of the scenes it is trained on."""
    config = point_rcnn_config()
    config.POST_PROCESSING.SCORE_THRESH = 0.3
    model = small_point_rcnn(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.005)
    for _ in range(600):
        optimizer.zero_grad()
        ret, _, _ = model.train()(point_batch(two_scenes()))
        ret["loss"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10)
        optimizer.step()
    with torch.no_grad():
        _, recall = model.eval()(point_batch(two_scenes()))
    assert recall["gt"] == 5
    assert recall["rcnn_0.5"] == 5
