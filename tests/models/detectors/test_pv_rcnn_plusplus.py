"""PV-RCNN++: proposals come first, keypoints lie near them and gather from near them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from easydict import EasyDict
from small_model import random_scene
from small_second import second_batch, small_second
from small_two_stage import pv_rcnn_config, pv_rcnn_plusplus_config, vector_pool_config
from torch import Tensor

from pcdet_distill.distill import Teacher
from pcdet_distill.errors import ConfigError
from pcdet_distill.models import Detector3DTemplate
from pcdet_distill.models.roi_heads.pvrcnn_head import PVRCNNHead
from pcdet_distill.ops.proposal_sampling import near_boxes
from pcdet_distill.types import BatchDict

# One proposal, and how far around it PFE looks.
BOX = torch.tensor([[4.0, 2, -1, 4, 2, 2, 0]])
NO_BOX = torch.zeros(1, 7)
SAMPLE_RADIUS_M = 1.6


def set_at(config: EasyDict, path: str, value: object) -> None:
    """Change one setting; ``path`` has dots between its keys."""
    *parents, key = path.split(".")
    for parent in parents:
        config = config[parent]
    config[key] = value


def plusplus(changes: Mapping[str, object] | None = None) -> Detector3DTemplate:
    """A detector with some settings of its PFE changed."""
    config = pv_rcnn_plusplus_config()
    for path, value in (changes or {}).items():
        set_at(config.PFE, path, value)
    return small_second(config)


def two_frames() -> BatchDict:
    """A batch of two scenes."""
    return second_batch([random_scene(0), random_scene(1)])


def points_of_frame(points: Tensor, frame: int) -> Tensor:
    """Points of one frame without their frame number."""
    return points[points[:, 0] == frame, 1:]


# --- Order of the slots


@pytest.mark.parametrize("training", [True, False])
def test_proposals_come_before_the_keypoints(training: bool) -> None:
    model = plusplus().train(training)
    found = model.run_modules(two_frames(), until="dense_head")
    assert found["rois"].shape == (2, 24, 7)
    assert "point_coords" not in found


@pytest.mark.parametrize(("training", "num_rois"), [(True, 8), (False, 24)])
def test_keypoints_lie_near_the_proposals_that_are_refined(training: bool, num_rois: int) -> None:
    model = plusplus().train(training)
    found = model.run_modules(two_frames(), until="pfe")
    # Training refines a sample of the proposals.
    assert found["rois"].shape == (2, num_rois, 7)
    for frame, rois in enumerate(found["rois"]):
        keypoints = points_of_frame(found["point_coords"], frame)
        assert len(keypoints)
        assert near_boxes(keypoints, rois, SAMPLE_RADIUS_M).all()


@pytest.fixture
def assigned(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Tensor]]:
    """The targets of every call of ``assign_targets``."""
    calls: list[dict[str, Tensor]] = []
    assign = PVRCNNHead.assign_targets

    def assign_and_note(head: PVRCNNHead, batch: BatchDict) -> dict[str, Tensor]:
        targets = assign(head, batch)
        calls.append(targets)
        return targets

    monkeypatch.setattr(PVRCNNHead, "assign_targets", assign_and_note)
    return calls


def test_proposals_are_sampled_once_a_training_step(assigned: list[dict[str, Tensor]]) -> None:
    model = plusplus().train()
    model.run_modules(two_frames(), until="pfe")
    assert len(assigned) == 1

    found = model.run_modules(two_frames())
    assert len(assigned) == 2
    assert "roi_targets_dict" not in found
    # The second stage refines the same sample.
    sampled = assigned[1]["rois"]
    assert torch.equal(model.roi_head.forward_ret_dict["rois"], sampled)
    assert torch.equal(found["rois"], sampled)


def test_an_evaluation_samples_no_proposals(assigned: list[dict[str, Tensor]]) -> None:
    found = plusplus().eval().run_modules(two_frames())
    assert not assigned
    assert "roi_targets_dict" not in found


def test_slots_are_built_in_the_usual_order() -> None:
    names = [name for name, _ in plusplus().named_slots()]
    assert names.index("pfe") < names.index("backbone_2d")
    assert names[-2:] == ["point_head", "roi_head"]


def test_a_teacher_runs_as_far_as_its_taps() -> None:
    teacher = Teacher(plusplus())
    batch = second_batch([random_scene(0)])
    until_map = teacher.run(batch, ["backbone_2d@spatial_features_2d"]).batch_dict
    assert "spatial_features_2d" in until_map
    assert "rois" not in until_map

    output = teacher.run(batch, ["pfe@point_features"])
    until_keypoints = output.batch_dict
    num_keypoints = len(until_keypoints["point_coords"])
    assert output.features["pfe@point_features"].shape == (num_keypoints, 12)
    assert "rois" in until_keypoints
    assert "point_cls_scores" not in until_keypoints
    # The student's own batch stays as it is.
    assert "rois" not in batch


# --- Sampling of keypoints: 48 a frame, by sectors


def scattered() -> dict[str, Tensor]:
    """1000 points a frame all over the range, one proposal in each of two frames, and padding."""
    torch.manual_seed(0)
    extent = torch.tensor([0, 16, 16, 4, 1])
    lowest = torch.tensor([0, 0, -8, -3, 0])
    points = lowest + torch.rand(2000, 5) * extent
    points[:, 0] = torch.arange(2000) // 1000
    rois_of_first = torch.cat([BOX, NO_BOX])
    rois_of_second = torch.cat([BOX + 1, NO_BOX])
    return {"points": points, "rois": torch.stack([rois_of_first, rois_of_second])}


def test_keypoints_are_distinct_points_near_proposals() -> None:
    batch = scattered()
    keypoints = plusplus().pfe.sample_keypoints(batch, 2)
    counts = torch.bincount(keypoints[:, 0].long())
    # Each of six sectors may round up.
    assert (counts >= 48).all()
    assert (counts <= 48 + 6).all()
    for frame, rois in enumerate(batch["rois"]):
        own = points_of_frame(keypoints, frame)
        assert near_boxes(own, rois, SAMPLE_RADIUS_M).all()
        assert len(own.unique(dim=0)) == len(own)


def test_a_larger_radius_lets_keypoints_lie_further_away() -> None:
    model = plusplus({"SPC_SAMPLING.SAMPLE_RADIUS_WITH_ROI": 5.0})
    keypoints = model.pfe.sample_keypoints(scattered(), 2)
    assert not near_boxes(points_of_frame(keypoints, 0), BOX, SAMPLE_RADIUS_M).all()


def test_one_sector_needs_no_rounding() -> None:
    model = plusplus({"SPC_SAMPLING.NUM_SECTORS": 1})
    assert model.pfe.sample_keypoints(scattered(), 2).shape == (2 * 48, 4)


def test_a_frame_without_proposals_keeps_its_first_point() -> None:
    batch = scattered()
    batch["rois"] = torch.zeros(3, 2, 7)
    keypoints = plusplus().pfe.sample_keypoints(batch, 3)
    first_points = batch["points"][[0, 1000], :4]
    assert torch.equal(keypoints, first_points)


def test_keypoints_do_not_depend_on_padding() -> None:
    batch = scattered()
    pfe = plusplus().pfe
    without_padding = {**batch, "rois": batch["rois"][:, :1]}
    expected = pfe.sample_keypoints(without_padding, 2)
    assert torch.equal(pfe.sample_keypoints(batch, 2), expected)


# --- Keypoints gather from near proposals


def is_far(places: Tensor) -> Tensor:
    """Which places (N, 3) lie more than 4 m from BOX; some must."""
    far = ~near_boxes(places, BOX, 4.0)
    assert far.any()
    return far


def with_far_points_doubled(batch: BatchDict) -> BatchDict:
    """The same batch with the intensities of far points doubled."""
    points = batch["points"].clone()
    far = is_far(points[:, 1:4])
    points[far, 4:] *= 2.0
    return {**batch, "points": points}


def with_far_voxels_doubled(batch: BatchDict, level: str) -> BatchDict:
    """The same batch with the features of far voxels of a level doubled."""
    levels = dict(batch["multi_scale_3d_features"])
    tensor = levels[level]
    voxel_size = torch.tensor([0.25, 0.25, 0.1]) * batch["multi_scale_3d_strides"][level]
    indices_xyz = tensor.indices[:, 1:].flip(1)
    centres = torch.tensor([0.0, -8, -3]) + (indices_xyz + 0.5) * voxel_size
    features = tensor.features.clone()
    features[is_far(centres)] *= 2.0
    levels[level] = tensor.replace_feature(features)
    return {**batch, "multi_scale_3d_features": levels}


def far_inputs_matter(source: str, changes: Mapping[str, object]) -> bool:
    """Whether features of keypoints depend on inputs in ``source`` far from all proposals."""
    model = plusplus(changes).eval()
    batch = second_batch([random_scene(0)])
    model.run_modules(batch, until="dense_head")
    batch["rois"] = BOX[None].clone()
    if source == "raw_points":
        doubled = with_far_points_doubled(batch)
    else:
        doubled = with_far_voxels_doubled(batch, source)
    expected = model.pfe(dict(batch))["point_features_before_fusion"]
    found = model.pfe(doubled)["point_features_before_fusion"]
    return not torch.equal(found, expected)


@pytest.mark.parametrize("source", ["raw_points", "x_conv3", "x_conv4"])
def test_keypoints_gather_from_near_proposals(source: str) -> None:
    block = f"SA_LAYER.{source}"
    # The keypoints' own neighbourhood reaches far enough.
    reach = {f"{block}.GROUP_CFG_1.MAX_NEIGHBOR_DISTANCE": 8.0}
    assert not far_inputs_matter(source, reach)
    no_filter = {f"{block}.FILTER_NEIGHBOR_WITH_ROI": False}
    assert far_inputs_matter(source, {**reach, **no_filter})
    large_radius = {f"{block}.RADIUS_OF_NEIGHBOR_WITH_ROI": 9.0}
    assert far_inputs_matter(source, {**reach, **large_radius})


# --- Settings


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


def test_a_detector_whose_proposals_come_later_cannot_sample_around_them() -> None:
    config = pv_rcnn_config()
    spc = {"NUM_SECTORS": 6, "SAMPLE_RADIUS_WITH_ROI": SAMPLE_RADIUS_M}
    config.PFE.update(SAMPLE_METHOD="SPC", SPC_SAMPLING=spc)
    message = "MODEL.PFE.SAMPLE_METHOD is 'SPC', expected FPS: this detector makes"
    with pytest.raises(ConfigError, match=message):
        small_second(config)


def test_a_detector_whose_proposals_come_later_cannot_gather_around_them() -> None:
    config = pv_rcnn_config()
    config.PFE.SA_LAYER.raw_points.update(
        FILTER_NEIGHBOR_WITH_ROI=True, RADIUS_OF_NEIGHBOR_WITH_ROI=1.0
    )
    message = "raw_points.FILTER_NEIGHBOR_WITH_ROI is true, expected false: this detector"
    with pytest.raises(ConfigError, match=message):
        small_second(config)


# --- Parts of PV-RCNN and PV-RCNN++ can be mixed


def keypoints_with_vector_pooling() -> EasyDict:
    """PV-RCNN, with PV-RCNN++'s vector pooling on one level."""
    config = pv_rcnn_config()
    config.PFE.SA_LAYER.x_conv4 = vector_pool_config(
        1.2, INPUT_CHANNELS=8, DOWNSAMPLE_FACTOR=8, NUM_REDUCED_CHANNELS=4
    )
    return config


def set_abstraction_around_proposals() -> EasyDict:
    """PV-RCNN++, with PV-RCNN's set abstraction on one level and in the second stage."""
    config = pv_rcnn_plusplus_config()
    config.PFE.SA_LAYER.x_conv4 = pv_rcnn_config().PFE.SA_LAYER.x_conv4
    config.ROI_HEAD = pv_rcnn_config().ROI_HEAD
    return config


@pytest.mark.parametrize(
    "make_config", [keypoints_with_vector_pooling, set_abstraction_around_proposals]
)
def test_mixed_detectors_train(make_config: Callable[[], EasyDict]) -> None:
    model = small_second(make_config()).train()
    ret_dict, _, _ = model(second_batch([random_scene(0)]))
    ret_dict["loss"].backward()
    for parameter in model.parameters():
        assert torch.isfinite(parameter.grad).all()
