"""An evaluation in LiDAR coordinates goes through the engine: log, table, metrics.json, report."""

from __future__ import annotations

import copy
import json
import logging
from pathlib import Path

import pytest
import torch
from easydict import EasyDict
from tiny_kitti import DATA_CONFIG, TinyKitti, fill
from torch import nn

from pcdet_distill.datasets import build_dataloader
from pcdet_distill.engine.evaluate import evaluate_model
from pcdet_distill.report.comparison import read_ap

CLASSES = ["Car", "Pedestrian", "Cyclist"]


class Oracle(nn.Module):
    """Finds every labelled box, a centimetre beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, batch: dict) -> tuple[list[dict[str, torch.Tensor]], dict[str, int]]:
        predictions = []
        for boxes in batch["gt_boxes"]:
            labelled = boxes[boxes[:, 7] > 0]
            prediction = {
                "pred_boxes": labelled[:, :7] + 0.01,
                "pred_scores": torch.linspace(0.9, 0.5, len(labelled)),
                "pred_labels": labelled[:, 7].long(),
            }
            predictions.append(prediction)
        return predictions, {"gt": 1}


def test_the_figures_reach_the_log_and_the_files(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kitti = TinyKitti(tmp_path / "kitti")
    fill(kitti)
    config = EasyDict(copy.deepcopy(DATA_CONFIG))
    config.DATA_PATH = str(kitti.root)
    config.INFO_PATH.test = ["kitti_infos_train.pkl"]
    config.EVALUATION = {"IOU": {"Car": [0.6]}, "PRIMARY": "bev"}
    _, loader, _ = build_dataloader(config, CLASSES, 2, workers=0, training=False, seed=0)
    with caplog.at_level(logging.INFO):
        outcome = evaluate_model(Oracle(), loader, result_dir=tmp_path / "eval")
    assert "LiDAR evaluation of 6 frames" in outcome.text
    assert "3D IoU 0.60" in caplog.text
    assert "Warning: Car has 6 objects" in caplog.text
    assert outcome.table in caplog.text
    assert outcome.ret_dict["Car_3d/iou0.6_area"] == pytest.approx(100)
    path = tmp_path / "eval" / "metrics.json"
    metrics = json.loads(path.read_text())
    assert metrics["primary"] == {"name": "BEV mAP area", "value": pytest.approx(100)}
    assert metrics["ap"]["Car"]["objects"] == 6
    ap = read_ap(path, CLASSES)
    assert ap["3d"] == pytest.approx(dict.fromkeys(CLASSES, 100.0))
