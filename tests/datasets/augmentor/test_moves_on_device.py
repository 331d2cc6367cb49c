"""Flips, rotations, scalings and translations on the device: the numbers of the workers.

Shuffling is off where points are compared one by one.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from augmentor_scenes import scene
from easydict import EasyDict
from pretend_gpu import pretended

from pcdet_distill.config import load_config
from pcdet_distill.datasets.augmentor import DataAugmentor
from pcdet_distill.datasets.dataset import DatasetTemplate
from pcdet_distill.datasets.view import PointView
from pcdet_distill.errors import ConfigError
from pcdet_distill.models import load_data_to_device

CLASSES = ["Car", "Pedestrian"]
MOVES = [
    {"NAME": "random_world_flip", "ALONG_AXIS_LIST": ["x", "y"]},
    {"NAME": "random_world_rotation", "WORLD_ROT_ANGLE": [-0.8, 0.8]},
    {"NAME": "random_world_scaling", "WORLD_SCALE_RANGE": [0.9, 1.1]},
    {"NAME": "random_world_translation", "NOISE_TRANSLATE_STD": [0.5, 0.5, 0.2]},
]
MASK = {"NAME": "mask_points_and_boxes_outside_range", "REMOVE_OUTSIDE_BOXES": True}
VOXELS = {
    "NAME": "transform_points_to_voxels",
    "VOXEL_SIZE": [0.5, 0.5, 4],
    "MAX_POINTS_PER_VOXEL": 4,
    "MAX_NUMBER_OF_VOXELS": {"train": 500, "test": 500},
}


class Scenes(DatasetTemplate):
    """Made-up scenes."""

    @property
    def num_frames(self) -> int:
        return 6

    def load_frame(self, index: int) -> dict[str, Any]:
        return {**scene(index), "frame_id": str(index)}


def dataset(
    *, on_device: bool, shuffle: bool = False, voxels_on_device: bool | None = None, **changes: Any
) -> Scenes:
    """The scenes with all moves; ``changes`` replace entries of the data config."""
    if voxels_on_device is None:
        voxels_on_device = on_device
    shuffling = {"train": shuffle, "test": False}
    config = EasyDict(
        POINT_CLOUD_RANGE=[-30, -20, -3, 30, 20, 1],
        POINT_FEATURE_ENCODING={
            "encoding_type": "absolute_coordinates_encoding",
            "used_feature_list": ["x", "y", "z", "intensity"],
            "src_feature_list": ["x", "y", "z", "intensity"],
        },
        DATA_AUGMENTOR={"ON_DEVICE": on_device, "AUG_CONFIG_LIST": copy.deepcopy(MOVES)},
        DATA_PROCESSOR=[
            dict(MASK),
            {"NAME": "shuffle_points", "SHUFFLE_ENABLED": shuffling},
            {**VOXELS, "ON_DEVICE": voxels_on_device},
        ],
    )
    config.update(EasyDict(changes))
    return Scenes(config, CLASSES, training=True, root_path=Path("."), seed=3)


def batch_of(data: Scenes) -> dict[str, Any]:
    """All scenes on the CPU, as the model gets them."""
    batch = data.collate_batch([data[index] for index in range(len(data))])
    load_data_to_device(batch, "cpu")
    return batch


def test_the_same_points_boxes_and_voxels() -> None:
    expected = batch_of(dataset(on_device=False))
    found = batch_of(dataset(on_device=True))
    assert "scene_move" not in found
    # Points have left the range, and all frames moved differently.
    assert 0 < len(expected["points"]) < 6 * 200
    assert len(np.unique(expected["noise_rot"])) == 6
    assert torch.equal(found["points"][:, 0], expected["points"][:, 0])
    torch.testing.assert_close(found["points"], expected["points"], rtol=0, atol=1e-5)
    for key in ("gt_boxes", "flip_x", "flip_y", "noise_rot", "noise_scale", "noise_translate"):
        assert torch.equal(found[key], expected[key]), key
    torch.testing.assert_close(found["lidar_aug_matrix"], expected["lidar_aug_matrix"])
    assert torch.equal(found["voxel_coords"], expected["voxel_coords"])
    torch.testing.assert_close(found["voxels"], expected["voxels"], rtol=0, atol=1e-5)


def test_shuffled_points_are_the_same_ones_in_another_order() -> None:
    expected = batch_of(dataset(on_device=False, shuffle=True))["points"]
    found = batch_of(dataset(on_device=True, shuffle=True))["points"]
    in_file_order = batch_of(dataset(on_device=True))["points"]
    assert not torch.equal(found, in_file_order)
    # The intensity tells which point is which.
    by_intensity = [points[points[:, 4].argsort()] for points in (found, expected)]
    torch.testing.assert_close(by_intensity[0], by_intensity[1], rtol=0, atol=1e-5)


def test_workers_send_the_points_as_they_were_recorded() -> None:
    item = dataset(on_device=True)[2]
    np.testing.assert_array_equal(item["points"], scene(2)["points"])


def test_skipped_moves_leave_the_points_where_they_are() -> None:
    data = dataset(on_device=True)
    data.disable_augmentations({entry["NAME"] for entry in MOVES}, from_epoch=0)
    points = batch_of(data)["points"]
    first = points[points[:, 0] == 0, 1:]
    recorded = scene(0)["points"]
    x, y = recorded[:, 0], recorded[:, 1]
    expected = recorded[(x >= -30) & (x <= 30) & (y >= -20) & (y <= 20)]
    np.testing.assert_array_equal(first.numpy(), expected)


def test_the_host_waits_for_no_motion_but_for_the_number_of_points() -> None:
    data = dataset(on_device=True, DATA_PROCESSOR=[dict(MASK)])
    batch = data.collate_batch([data[index] for index in range(3)])
    expected = dict(batch)
    load_data_to_device(expected, "cpu")
    with pretended() as waits:
        load_data_to_device(batch, "pretend")
        in_models = {
            line: times for (_, line), times in waits.places.items() if "scene_move" in line
        }
        assert batch["points"].device.type == "pretend"
        assert torch.equal(batch["points"].cpu(), expected["points"])
    assert in_models == {"ops/scene_move.py:move_points": 1}


def test_pasting_comes_before_the_moves() -> None:
    block = {"ON_DEVICE": True, "AUG_CONFIG_LIST": [*MOVES[:1], {"NAME": "thin_beams"}]}
    block["AUG_CONFIG_LIST"][1] |= {"KEEP_EVERY": [1, 2]}
    with pytest.raises(ConfigError, match="thin_beams stands after random_world_flip"):
        DataAugmentor(Path("."), block, CLASSES)


@pytest.mark.parametrize(
    "step, words",
    [
        ({"NAME": "sample_points", "NUM_POINTS": {"train": 9, "test": 9}}, "sample_points needs"),
        (VOXELS, "set ON_DEVICE in transform_points_to_voxels too"),
    ],
    ids=["sampling", "voxels of the workers"],
)
def test_steps_that_need_moved_points_are_refused(step: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        dataset(on_device=True, DATA_PROCESSOR=[dict(MASK), step])


def test_a_teacher_with_other_points_is_refused() -> None:
    data = dataset(on_device=True)
    features = data.spec.point_feature_encoder.src_feature_list
    view = PointView(data.dataset_cfg, features, training=True)
    with pytest.raises(ConfigError, match="ON_DEVICE: the teacher reads the points in a form of"):
        data.add_view("teacher", view)
    dataset(on_device=False).add_view("teacher", view)


def test_a_yaml_may_say_on_device(tmp_path: Path) -> None:
    changes = ["DATA_CONFIG.DATA_AUGMENTOR.ON_DEVICE", "True"]
    cfg = load_config("kitti_models/pointpillar.yaml", changes)
    assert cfg.DATA_CONFIG.DATA_AUGMENTOR.ON_DEVICE is True
