"""Small detectors with lively weights, and clouds with full pillars."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from easydict import EasyDict
from torch import nn

from pcdet_distill.checkpoint import save_checkpoint
from pcdet_distill.config import load_config
from pcdet_distill.datasets.spec import DataSpec
from pcdet_distill.export.boxes import FrameBoxes
from pcdet_distill.export.exporter import Export, export_detector
from pcdet_distill.inference import Detector, load_detector
from pcdet_distill.models import build_network

POINTPILLAR = "synthetic/pointpillar_student.yaml"
CENTERPOINT = "synthetic/centerpoint_pillar.yaml"


def small_config(name: str, max_points: int = 20) -> EasyDict:
    """A config of cfgs/ on a small range, with pillars of ``max_points``."""
    cfg = load_config(name)
    cfg.DATA_CONFIG.POINT_CLOUD_RANGE = [0, -6.4, -3, 12.8, 6.4, 1]
    for step in cfg.DATA_CONFIG.DATA_PROCESSOR:
        if step.NAME == "transform_points_to_voxels":
            step.MAX_POINTS_PER_VOXEL = max_points
            step.MAX_NUMBER_OF_VOXELS = {"train": 900, "test": 900}
    if cfg.MODEL.NAME == "CenterPoint":
        limits = cfg.MODEL.DENSE_HEAD.POST_PROCESSING
        limits.POST_CENTER_LIMIT_RANGE = [-20, -20, -20, 40, 20, 20]
    return cfg


def crowded_cloud(seed: int) -> np.ndarray:
    """(N, 4) points, some in pillars of more than 32 points."""
    random = np.random.RandomState(seed)
    spread = random.uniform([0, -6.4, -2.9, 0], [12.8, 6.4, 0.9, 1], (1500, 4))
    centres = random.uniform([1, -5, -2], [12, 5, 0], (30, 3)).repeat(40, axis=0)
    crowds = np.concatenate([centres, random.uniform(0, 1, (len(centres), 1))], axis=1)
    crowds[:, :3] += random.normal(0, 0.05, (len(crowds), 3))
    points = np.concatenate([spread, crowds])
    return points[random.permutation(len(points))].astype(np.float32)


def lively(model: nn.Module) -> None:
    """Weights for which every layer matters, as after a training."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor, low, high in (
                (module.running_mean, -0.3, 0.3),
                (module.running_var, 0.5, 2.0),
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -0.3, 0.3),
            ):
                assert tensor is not None
                tensor.uniform_(low, high, generator=generator)


def make_detector(cfg: EasyDict, folder: Path) -> tuple[Detector, Path]:
    """A detector of which one cell in a hundred has a score above the threshold."""
    spec = DataSpec.from_config(cfg.DATA_CONFIG, cfg.CLASS_NAMES)
    torch.manual_seed(0)
    model = build_network(cfg.MODEL, len(cfg.CLASS_NAMES), spec)
    lively(model)
    head = model.dense_head
    is_center = hasattr(head, "heads_list")
    layer = head.heads_list[0].hm[-1] if is_center else head.conv_cls
    if not is_center:
        nn.init.normal_(head.conv_box.weight, std=0.02)
    path = folder / "model.pth"
    save_checkpoint({"model_state": model.state_dict()}, path)
    detector = load_detector(cfg, path, device="cpu")
    with detector.model.eval().capture([_path_of(detector, is_center)]) as features:
        detector(crowded_cloud(0))
    (logits,) = features.values()
    values = logits[0].flatten(1)
    with torch.no_grad():
        # Logits of a deviation of 1, the highest hundredth above the threshold.
        factor = 1 / values.std(dim=1)
        layer.weight *= factor[:, None, None, None]
        layer.bias *= factor
        layer.bias -= torch.quantile(values, 0.99, dim=1) * factor + 2.1
    save_checkpoint({"model_state": model.state_dict()}, path)
    return load_detector(cfg, path, device="cpu"), path


def _path_of(detector: Detector, is_center: bool) -> str:
    return "dense_head.heads_list.0.hm" if is_center else "dense_head.conv_cls"


def export_of(detector: Detector, path: Path) -> Export:
    return export_detector(detector, path)


def assert_same_boxes(found: FrameBoxes, expected) -> None:
    """The same boxes, whatever their order: boxes of equal scores have none."""
    assert len(found.boxes) == len(expected.boxes)
    left = _in_order(found.boxes, found.scores, found.labels)
    right = _in_order(expected.boxes, expected.scores, expected.labels)
    np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-4)


def _in_order(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Rows of label, score, box in an order that rounding does not change."""
    heading = boxes[:, 6:7]
    rows = np.concatenate(
        [labels[:, None], boxes[:, :6], np.cos(heading), np.sin(heading), scores[:, None]], axis=1
    )
    return rows[np.lexsort(np.round(rows[:, :3], 2).T)]
