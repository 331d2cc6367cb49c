"""PV-RCNN++: proposals come first, keypoints lie near them and gather from near them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from easydict import EasyDict
from small_model import random_scene
from small_second import second_batch, small_second
from small_two_stage import pv_rcnn_config, pv_rcnn_plusplus_config, vector_pool_config
from torch import Tensor

from pcdet_distill.distill import Teacher
from pcdet_distill.errors import ConfigError
from pcdet_distill.models.roi_heads.pvrcnn_head import PVRCNNHead
from pcdet_distill.ops.proposal_sampling import near_boxes

BOX = torch.tensor([[4.0, 2, -1, 4, 2, 2, 0]])


def set_at(config: EasyDict, path: str, value: Any) -> EasyDict:
    *parents, key = path.split(".")
    for parent in parents:
        config = config[parent]
    config[key] = value
    return config


def plusplus(**changes: Any) -> Any:
    """A detector with settings of its PFE changed; dots are written as two underscores."""
    config = pv_rcnn_plusplus_config()
    for path, value in changes.items():
        set_at(config.PFE, path.replace("__", "."), value)
    return small_second(config)


def scattered() -> dict[str, Tensor]:
    """Points of two frames all over the range, one proposal in each and padding."""
    torch.manual_seed(0)
    points = torch.rand(2000, 5) * torch.tensor([0, 16, 16, 4, 1]) - torch.tensor([0, 0, 8, 3, 0])
    points[:, 0] = torch.arange(2000) // 1000
    return {
        "points": points,
        "rois": torch.stack([torch.cat([BOX, 0 * BOX]), torch.cat([BOX + 1, 0 * BOX])]),
    }


@pytest.mark.parametrize("training", [True, False])
def test_proposals_come_before_the_keypoints(
    training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assigned: list[dict[str, Tensor]] = []
    assign = PVRCNNHead.assign_targets

    def record(head: PVRCNNHead, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        assigned.append(assign(head, batch))
        return assigned[-1]

    monkeypatch.setattr(PVRCNNHead, "assign_targets", record)
    model = plusplus().train(training)
    batch = second_batch([random_scene(0), random_scene(1)])
    found = model.run_modules(batch, until="dense_head")
    assert found["rois"].shape == (2, 24, 7)
    assert "point_coords" not in found
    found = model.run_modules(second_batch([random_scene(0), random_scene(1)]), until="pfe")
    assert found["rois"].shape == (2, 8 if training else 24, 7)
    for frame, rois in enumerate(found["rois"]):
        own = found["point_coords"][found["point_coords"][:, 0] == frame]
        assert len(own)
        assert near_boxes(own[:, 1:], rois, 1.6).all()
    assert len(assigned) == training
    found = model.run_modules(second_batch([random_scene(0), random_scene(1)]))
    assert len(assigned) == 2 * training
    assert "roi_targets_dict" not in found
    if training:
        assert torch.equal(model.roi_head.forward_ret_dict["rois"], assigned[1]["rois"])
        assert torch.equal(found["rois"], assigned[1]["rois"])


def test_slots_are_built_in_the_usual_order() -> None:
    names = [name for name, _ in plusplus().named_slots()]
    assert names.index("pfe") < names.index("backbone_2d")
    assert names[-2:] == ["point_head", "roi_head"]


def test_a_teacher_runs_as_far_as_its_taps() -> None:
    teacher = Teacher(plusplus())
    batch = second_batch([random_scene(0)])
    own = teacher.run(batch, ["backbone_2d@spatial_features_2d"]).batch_dict
    assert "spatial_features_2d" in own
    assert "rois" not in own
    output = teacher.run(batch, ["pfe@point_features"])
    features = output.features
    own = output.batch_dict
    assert features["pfe@point_features"].shape == (len(own["point_coords"]), 12)
    assert "point_cls_scores" not in own
    assert "rois" in own
    assert "rois" not in batch


def test_keypoints_near_proposals() -> None:
    batch = scattered()
    keypoints = plusplus().pfe.sample_keypoints(batch, 2)
    counts = torch.bincount(keypoints[:, 0].long())
    assert ((counts >= 48) & (counts <= 48 + 6)).all()
    for frame in range(2):
        own = keypoints[keypoints[:, 0] == frame, 1:]
        assert near_boxes(own, batch["rois"][frame], 1.6).all()
        assert len(own.unique(dim=0)) == len(own)
    wide = plusplus(SPC_SAMPLING__SAMPLE_RADIUS_WITH_ROI=5.0).pfe.sample_keypoints(batch, 2)
    assert not near_boxes(wide[wide[:, 0] == 0, 1:], BOX, 1.6).all()
    assert plusplus(SPC_SAMPLING__NUM_SECTORS=1).pfe.sample_keypoints(batch, 2).shape == (96, 4)


def test_a_frame_without_proposals_keeps_its_first_point() -> None:
    batch = scattered()
    batch["rois"] = torch.zeros(3, 2, 7)
    keypoints = plusplus().pfe.sample_keypoints(batch, 3)
    assert torch.equal(keypoints, batch["points"][[0, 1000], :4])


def test_keypoints_do_not_depend_on_padding() -> None:
    batch = scattered()
    pfe = plusplus().pfe
    alone = pfe.sample_keypoints({**batch, "rois": batch["rois"][:, :1]}, 2)
    assert torch.equal(pfe.sample_keypoints(batch, 2), alone)


def far_points_matter(source: str, **changes: Any) -> bool:
    """Whether features of keypoints depend on inputs in ``source`` far from all proposals."""
    model = plusplus(**changes).eval()
    batch = second_batch([random_scene(0)])
    model.run_modules(batch, until="dense_head")
    batch["rois"] = BOX[None].clone()
    outputs = []
    for factor in (1.0, 2.0):
        changed = dict(batch)
        if source == "raw_points":
            far = ~near_boxes(batch["points"][:, 1:4], BOX, 4.0)
            changed["points"] = batch["points"].clone()
            changed["points"][far, 4:] *= factor
        else:
            levels = dict(batch["multi_scale_3d_features"])
            tensor = levels[source]
            stride = batch["multi_scale_3d_strides"][source]
            size = torch.tensor([0.25, 0.25, 0.1]) * stride
            centres = (tensor.indices[:, 1:].flip(1) + 0.5) * size + torch.tensor([0.0, -8, -3])
            far = ~near_boxes(centres, BOX, 4.0)
            levels[source] = tensor.replace_feature(
                tensor.features * (1 + far[:, None] * (factor - 1))
            )
            changed["multi_scale_3d_features"] = levels
        assert far.any()
        outputs.append(model.pfe(changed)["point_features_before_fusion"])
    return not torch.equal(*outputs)


@pytest.mark.parametrize("source", ["raw_points", "x_conv3", "x_conv4"])
def test_keypoints_gather_from_near_proposals(source: str) -> None:
    block = f"SA_LAYER__{source}__"
    reach = {f"{block}GROUP_CFG_1__MAX_NEIGHBOR_DISTANCE": 8.0}
    assert not far_points_matter(source, **reach)
    assert far_points_matter(source, **reach, **{f"{block}FILTER_NEIGHBOR_WITH_ROI": False})
    assert far_points_matter(source, **reach, **{f"{block}RADIUS_OF_NEIGHBOR_WITH_ROI": 9.0})


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("PFE.SPC_SAMPLING", None, "MODEL.PFE.SPC_SAMPLING is missing"),
        (
            "PFE.SPC_SAMPLING.NUM_SECTORS",
            0,
            "SPC_SAMPLING.NUM_SECTORS is 0, expected a number above 0",
        ),
        (
            "PFE.SA_LAYER.x_conv3.RADIUS_OF_NEIGHBOR_WITH_ROI",
            None,
            "x_conv3.RADIUS_OF_NEIGHBOR_WITH_ROI is missing",
        ),
        (
            "PFE.SA_LAYER.x_conv4.NAME",
            "VectorPool",
            "SA_LAYER.x_conv4.NAME: unknown name 'VectorPool'; known: StackSAM",
        ),
        (
            "PFE.SA_LAYER.x_conv4.NUM_REDUCED_CHANNELS",
            3,
            "x_conv4.NUM_REDUCED_CHANNELS is 3, expected a number that",
        ),
        (
            "ROI_HEAD.ROI_GRID_POOL.NAME",
            "StackSAModule",
            "ROI_GRID_POOL.NAME: unknown name 'StackSAModule'; did you mean",
        ),
        ("ROI_HEAD", None, "MODEL.ROI_HEAD is missing"),
    ],
)
def test_wrong_settings_are_named(path: str, value: object, message: str) -> None:
    config = pv_rcnn_plusplus_config()
    set_at(config, path, value)
    with pytest.raises(ConfigError, match=message):
        small_second(config)


def test_a_detector_whose_proposals_come_later_refuses_to_sample_around_them() -> None:
    config = pv_rcnn_config()
    config.PFE.update(
        SAMPLE_METHOD="SPC", SPC_SAMPLING={"NUM_SECTORS": 6, "SAMPLE_RADIUS_WITH_ROI": 1.6}
    )
    with pytest.raises(
        ConfigError, match="MODEL.PFE.SAMPLE_METHOD is 'SPC', expected FPS: this detector makes"
    ):
        small_second(config)
    config = pv_rcnn_config()
    config.PFE.SA_LAYER.raw_points.update(
        FILTER_NEIGHBOR_WITH_ROI=True, RADIUS_OF_NEIGHBOR_WITH_ROI=1.0
    )
    with pytest.raises(
        ConfigError,
        match="raw_points.FILTER_NEIGHBOR_WITH_ROI is true, expected false: this detector",
    ):
        small_second(config)


def test_the_parts_can_be_mixed() -> None:
    """PV-RCNN's keypoints with vector pooling, and set abstraction around PV-RCNN++'s keypoints."""
    config = pv_rcnn_config()
    config.PFE.SA_LAYER.x_conv4 = vector_pool_config(
        1.2, INPUT_CHANNELS=8, DOWNSAMPLE_FACTOR=8, NUM_REDUCED_CHANNELS=4
    )
    other = pv_rcnn_plusplus_config()
    other.PFE.SA_LAYER.x_conv4 = pv_rcnn_config().PFE.SA_LAYER.x_conv4
    other.ROI_HEAD = pv_rcnn_config().ROI_HEAD
    for mixed in (config, other):
        model = small_second(mixed).train()
        model(second_batch([random_scene(0)]))[0]["loss"].backward()
        assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())
