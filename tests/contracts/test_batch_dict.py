"""Each slot writes the keys of the table in ``pcdet_distill.models``, and no others."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

import pcdet_distill.models
from pcdet_distill.config import load_config
from pcdet_distill.datasets.spec import DataSpec
from pcdet_distill.models import Detector3DTemplate, build_network
from pcdet_distill.models.backbones_3d.vfe import MeanVFE

OVERRIDES = ["DATA_CONFIG.POINT_CLOUD_RANGE", "[0, -5.12, -3, 10.24, 5.12, 1]"]  # 64 x 64 pillars
COLLATED = {"points", "voxels", "voxel_num_points", "voxel_coords", "gt_boxes", "batch_size"}


class Entry(NamedTuple):
    key: str
    shape: str
    writer: str


def documented() -> list[Entry]:
    """Rows of the table; a line that starts with a space continues the meaning above it."""
    table = pcdet_distill.models.__doc__.split("===\n")[2]
    entries = []
    for line in table.splitlines():
        if line and not line.startswith(("=", " ")):
            key, shape, writer = re.split(r"\s{2,}", line)[:3]
            entries.append(Entry(key, shape, writer))
    return entries


def make_model(repo: Path) -> Detector3DTemplate:
    cfg = load_config(repo / "cfgs" / "kitti_distill" / "pointpillar_16x.yaml", OVERRIDES)
    return build_network(
        cfg.MODEL, len(cfg.CLASS_NAMES), DataSpec.from_config(cfg.DATA_CONFIG, cfg.CLASS_NAMES)
    )


def make_batch() -> dict:
    num_points = torch.tensor([3.0, 32, 1])
    points = torch.rand(3, 32, 4) * (torch.arange(32) < num_points[:, None]).unsqueeze(2)
    return {
        "points": torch.rand(36, 5),
        "voxels": points,
        "voxel_num_points": num_points,
        "batch_size": 2,
        "voxel_coords": torch.tensor([[0.0, 0, 5, 7], [0, 0, 6, 7], [1, 0, 63, 63]]),
        "gt_boxes": torch.tensor([[[1.2, -4.3, -1, 3.9, 1.6, 1.56, 0, 1]], [[0.0] * 8]]),
    }


def sizes(model: Detector3DTemplate) -> dict[str, list[int]]:
    """What the letters and words of the table's shapes stand for, for the batch above."""
    anchors = len(model.dense_head.flat_anchors)
    return {
        "voxel_features": [3, 4],
        "pillar_features": [3, 16],
        "spatial_features": [2, 16, 64, 64],
        "spatial_features_2d": [2, 96, 32, 32],
        "batch_cls_preds": [2, anchors, 3],
        "batch_box_preds": [2, anchors, 7],
    }


def test_the_table_is_read() -> None:
    rows = {entry.key: entry for entry in documented()}
    assert {"points", "pillar_features", "batch_box_preds"} <= set(rows)
    assert rows["pillar_features"].writer == "PillarVFE"
    assert rows["pillar_features"].shape == "(M, channels)"
    collated = {key for key, entry in rows.items() if entry.writer == "collate"}
    assert collated >= COLLATED


@pytest.mark.parametrize("training", [True, False])
def test_each_slot_writes_what_the_table_says(repo: Path, training: bool) -> None:
    model = make_model(repo).train(training)
    batch = make_batch()
    for _, module in model.named_slots():
        before = dict(batch)
        batch = module(batch)
        written = {
            key for key, value in batch.items() if key not in before or before[key] is not value
        }
        name = type(module).__name__
        expected = {entry.key for entry in documented() if entry.writer == name}
        assert expected, f"{name} is not in the table"
        # Boxes are decoded in eval, or for a second stage.
        assert written == (set() if training and name == "AnchorHeadSingle" else expected)
        for key in written & set(sizes(model)):
            assert list(batch[key].shape) == sizes(model)[key]
            assert batch[key].dtype == torch.float32
            documented_rank = (
                next(entry.shape for entry in documented() if entry.key == key).count(",") + 1
            )
            assert batch[key].dim() == documented_rank


def test_mean_vfe_writes_what_the_table_says() -> None:
    batch = make_batch()
    found = MeanVFE(model_cfg={}, num_point_features=4)(dict(batch))
    assert set(found) - set(batch) == {
        entry.key for entry in documented() if entry.writer == "MeanVFE"
    }
    assert found["voxel_features"].shape == (3, 4)


def test_inputs_are_not_changed(repo: Path) -> None:
    model = make_model(repo)
    batch = make_batch()
    before = {key: value.clone() for key, value in batch.items() if isinstance(value, Tensor)}
    model.train()(batch)[0]["loss"].backward()
    model.eval()(batch)
    assert all(torch.equal(batch[key], value) for key, value in before.items())


def test_batch_size_is_read_from_the_dict(repo: Path) -> None:
    model = make_model(repo).eval()
    batch = make_batch()
    batch["batch_size"] = 4
    batch["gt_boxes"] = torch.zeros(4, 1, 8)
    predictions, _ = model(batch)
    assert len(predictions) == 4
    assert batch["spatial_features"].shape[0] == 4
