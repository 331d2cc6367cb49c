"""Augmentation of boxes with velocities against the numbers of OpenPCDet's nuScenes pipeline.

The golden folder of nuScenes is not in the project: see ``nuscenes_dir`` in ``conftest.py``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

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


class Recorded:
    """The recorded arrays and numbers of the pipeline."""

    def __init__(self, folder: Path) -> None:
        with np.load(folder / "pipeline" / "nuscenes_pipeline.npz") as file:
            self.arrays = {name: file[name] for name in file.files if name.startswith("aug_")}
        text = (folder / "pipeline" / "nuscenes_pipeline.json").read_text()
        self.numbers: Mapping = json.loads(text)

    def scene(self) -> tuple[np.ndarray, np.ndarray]:
        """Points (200, 5) and boxes (12, 9) before any augmentation; row 3 has no velocity."""
        return self.arrays["aug_points"].copy(), self.arrays["aug_gt"].copy()

    def check(self, name: str, points: np.ndarray, boxes: np.ndarray) -> None:
        """Compare with the recording ``name``. Headings are compared as directions."""
        np.testing.assert_allclose(points, self.arrays[f"{name}_points"], atol=TOLERANCE)
        expected = self.arrays[f"{name}_gt"]
        others = [0, 1, 2, 3, 4, 5, 7, 8]
        np.testing.assert_allclose(boxes[:, others], expected[:, others], atol=TOLERANCE)
        difference = boxes[:, 6] - expected[:, 6]
        np.testing.assert_allclose(np.cos(difference), 1.0, atol=TOLERANCE**2)


@pytest.fixture(scope="module")
def recorded(nuscenes_dir: Path) -> Recorded:
    return Recorded(nuscenes_dir)


@pytest.mark.parametrize("axis", ["x", "y"])
def test_flip(recorded: Recorded, axis: str) -> None:
    points, boxes = recorded.scene()
    flip_along_axis(points, boxes, axis)
    recorded.check(f"aug_flip_{axis}", points, boxes)


def test_rotation(recorded: Recorded) -> None:
    points, boxes = recorded.scene()
    rotate_scene(points, boxes, 0.3)
    recorded.check("aug_rotate_0.3", points, boxes)


def test_scaling(recorded: Recorded) -> None:
    points, boxes = recorded.scene()
    scale_scene(points, boxes, recorded.numbers["aug_scale"])
    recorded.check("aug_scale", points, boxes)


@pytest.mark.parametrize("number", range(3))
def test_all_augmentations_after_each_other(recorded: Recorded, number: int) -> None:
    """The same random numbers in the same order give the same scene."""
    points, boxes = recorded.scene()
    mask = np.ones(len(boxes), dtype=bool)
    mask[OTHER_CLASSES] = False
    item = {
        "points": points,
        "gt_boxes": boxes,
        "gt_names": np.array(["car"] * len(boxes)),
        "gt_boxes_mask": mask,
    }
    random = np.random.RandomState(CHAIN_SEED + number)
    item = DataAugmentor(Path("."), CHAIN, ["car"]).forward(item, random)
    drawn = recorded.numbers[f"aug_chain_{number}"]
    for name in DRAWN:
        # The shift is recorded in float32.
        np.testing.assert_allclose(np.ravel(item[name]), np.ravel(drawn[name]), rtol=1e-6)
    recorded.check(f"aug_chain_{number}", item["points"], item["gt_boxes"])
    assert np.all(np.abs(item["gt_boxes"][:, 6]) <= np.pi)
