"""Augmentation of boxes with velocities against the numbers of OpenPCDet's nuScenes pipeline.

The golden folder of nuScenes is not in the project: see ``nuscenes_dir`` in ``conftest.py``.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pytest
from nuscenes_recording import Recording, claimed_patterns, names_of

from pcdet_distill.datasets.augmentor import DataAugmentor
from pcdet_distill.datasets.augmentor.world import flip_along_axis, rotate_scene, scale_scene

# The rotation is computed in float32, for points up to 100 m away.
TOLERANCE = 1e-5
# nuScenes' yaml, with the translation of its models with voxels of 0.075 m.
CHAIN = [
    {"NAME": "random_world_flip", "ALONG_AXIS_LIST": ["x", "y"]},
    {"NAME": "random_world_rotation", "WORLD_ROT_ANGLE": [-0.3925, 0.3925]},
    {"NAME": "random_world_scaling", "WORLD_SCALE_RANGE": [0.95, 1.05]},
    {"NAME": "random_world_translation", "NOISE_TRANSLATE_STD": [0.5, 0.5, 0.5]},
]
CHAIN_SEED = 50  # of aug_chain_0; the next one is one higher
OTHER_CLASSES = [4, 9]  # rows that the mask of class names drops
DRAWN = ("flip_x", "flip_y", "noise_rot", "noise_scale", "noise_translate")


def scene(recorded: Recording) -> tuple[np.ndarray, np.ndarray]:
    """Points (200, 5) and boxes (12, 9) before any augmentation; row 3 has no velocity."""
    return recorded.array("aug_points"), recorded.array("aug_gt")


def check(recorded: Recording, name: str, points: np.ndarray, boxes: np.ndarray) -> None:
    """Compare with the recording ``name``. Headings are compared as directions."""
    np.testing.assert_allclose(points, recorded.array(f"{name}_points"), atol=TOLERANCE)
    expected = recorded.array(f"{name}_gt")
    others = [0, 1, 2, 3, 4, 5, 7, 8]
    np.testing.assert_allclose(boxes[:, others], expected[:, others], atol=TOLERANCE)
    difference = boxes[:, 6] - expected[:, 6]
    np.testing.assert_allclose(np.cos(difference), 1.0, atol=TOLERANCE**2)


def test_every_number_is_read(nuscenes_dir: Path) -> None:
    patterns = claimed_patterns(Path(__file__).parent)
    unread = [
        name
        for name in sorted(names_of(nuscenes_dir))
        if not any(fnmatchcase(name, pattern) for pattern in patterns)
    ]
    assert unread == []


def test_a_number_that_no_test_reads_is_noticed(nuscenes_dir: Path) -> None:
    recording = Recording(nuscenes_dir, ["aug_points", "aug_gt"])
    recording.array("aug_gt")
    assert recording.unread() == ["aug_points"]
    with pytest.raises(AssertionError, match="aug_scale"):
        recording.number("aug_scale")


@pytest.mark.recorded("aug_points", "aug_gt", "aug_flip_{axis}_*")
@pytest.mark.parametrize("axis", ["x", "y"])
def test_flip(recorded: Recording, axis: str) -> None:
    points, boxes = scene(recorded)
    flip_along_axis(points, boxes, axis)
    check(recorded, f"aug_flip_{axis}", points, boxes)


@pytest.mark.recorded("aug_points", "aug_gt", "aug_rotate_0.3_*")
def test_rotation(recorded: Recording) -> None:
    points, boxes = scene(recorded)
    rotate_scene(points, boxes, 0.3)
    check(recorded, "aug_rotate_0.3", points, boxes)


@pytest.mark.recorded("aug_points", "aug_gt", "aug_scale*")
def test_scaling(recorded: Recording) -> None:
    points, boxes = scene(recorded)
    scale_scene(points, boxes, recorded.number("aug_scale"))
    check(recorded, "aug_scale", points, boxes)


@pytest.mark.recorded("aug_points", "aug_gt", "aug_chain", "aug_chain_{number}*")
@pytest.mark.parametrize("number", range(3))
def test_all_augmentations_after_each_other(recorded: Recording, number: int) -> None:
    """The same random numbers in the same order give the same scene."""
    points, boxes = scene(recorded)
    mask = np.ones(len(boxes), dtype=bool)
    mask[OTHER_CLASSES] = False
    item = {
        "points": points,
        "gt_boxes": boxes,
        "gt_names": np.array(["car"] * len(boxes)),
        "gt_boxes_mask": mask,
    }
    assert recorded.number("aug_chain").startswith(f"seed {CHAIN_SEED}+s;")
    random = np.random.RandomState(CHAIN_SEED + number)
    item = DataAugmentor(Path("."), CHAIN, ["car"]).forward(item, random)
    drawn = recorded.number(f"aug_chain_{number}")
    for name in DRAWN:
        # The shift is recorded in float32.
        np.testing.assert_allclose(np.ravel(item[name]), np.ravel(drawn[name]), rtol=1e-6)
    check(recorded, f"aug_chain_{number}", item["points"], item["gt_boxes"])
    assert np.all(np.abs(item["gt_boxes"][:, 6]) <= np.pi)
