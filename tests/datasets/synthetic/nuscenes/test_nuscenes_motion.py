"""The velocities of an item are the motion that its sweeps show, after augmentation too.

So a detector can learn velocities: ages, ego motion, pasted objects, flips, rotation and scaling
all agree with the labels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pcdet_distill.cli import main
from pcdet_distill.config import load_config
from pcdet_distill.datasets import build_dataset
from pcdet_distill.datasets.dataset import DatasetTemplate
from pcdet_distill.datasets.synthetic import create_synthetic_nuscenes

YAML = "cfgs/synthetic/nuscenes/centerpoint_teacher.yaml"
SWEEPS = 3
LONG_LABELS = (1, 2, 4)  # car, truck, bus
TRAIL_M = 4.0
AGE = 4
LEAST_POINTS = 15


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory, repo: Path) -> dict[bool, DatasetTemplate]:
    """The dataset of the quickstart, by whether it is augmented."""
    folder = tmp_path_factory.mktemp("motion")
    create_synthetic_nuscenes(
        folder, 20, 3, val_frames=8, scene_frames=4, sweeps=SWEEPS, progress=False, workers=1
    )
    cfg = load_config(repo / YAML, ["DATA_CONFIG.DATA_PATH", str(folder)])
    cfg.DATA_CONFIG.VERSION = "v1.0-mini"
    dataset_yaml = str(repo / "cfgs/synthetic/nuscenes/dataset.yaml")
    words = ["--version", "v1.0-mini", "--workers", "1", "--set", "DATA_PATH", str(folder)]
    main(["data", "nuscenes", dataset_yaml, *words])
    datasets = {}
    for training in (False, True):
        datasets[training] = build_dataset(cfg.DATA_CONFIG, cfg.CLASS_NAMES, training=training)
    return datasets


def shown_speed(points: np.ndarray, box: np.ndarray) -> float | None:
    """How fast the front of an object moves along its heading, by the newest and oldest points.

    None if few points show it.
    """
    offset = points[:, :2] - box[:2]
    heading = np.array([np.cos(box[6]), np.sin(box[6])])
    along = offset @ heading
    across = offset @ np.array([-heading[1], heading[0]])
    is_near = (np.abs(along) < box[3] / 2 + TRAIL_M) & (np.abs(across) < box[4] / 2 + 0.1)
    is_raised = points[:, 2] > box[2] - box[5] / 2 + 0.3
    ages = points[is_near & is_raised, AGE]
    along = along[is_near & is_raised]
    if len(ages) == 0 or ages.max() == 0:
        return None
    newest, oldest = along[ages == 0], along[ages == ages.max()]
    if min(len(newest), len(oldest)) < LEAST_POINTS:
        return None
    return float(np.percentile(newest, 90) - np.percentile(oldest, 90)) / float(ages.max())


@pytest.mark.parametrize("training", [False, True])
def test_sweeps_show_the_velocities_of_the_labels(
    items: dict[bool, DatasetTemplate], training: bool
) -> None:
    labelled = []
    shown = []
    dataset = items[training]
    for epoch in range(3 if training else 1):
        dataset.set_epoch(epoch)
        for index in range(len(dataset)):
            item = dataset[index]
            for box in item["gt_boxes"]:
                speed = shown_speed(item["points"], box) if box[-1] in LONG_LABELS else None
                if speed is not None:
                    labelled.append(box[7] * np.cos(box[6]) + box[8] * np.sin(box[6]))
                    shown.append(speed)
    is_moving = np.array(labelled) > 3.0
    assert is_moving.sum() >= 8
    ratio = np.array(shown)[is_moving] / np.array(labelled)[is_moving]
    # Others that pass behind, and the ends of a trail, spoil single ones.
    assert 0.8 < np.median(ratio) < 1.2
    assert (~is_moving).sum() >= 8
    assert abs(np.median(np.array(shown)[~is_moving])) < 0.3
