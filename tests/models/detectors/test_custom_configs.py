"""cfgs/custom: each detector builds for the base file of own data, and its anchors fit its map."""

from __future__ import annotations

from pathlib import Path

import pytest

from pcdet_distill.config import load_config
from pcdet_distill.datasets.spec import DataSpec
from pcdet_distill.models import build_network

CONFIGS = sorted((Path(__file__).parents[3] / "cfgs" / "custom").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=[path.stem for path in CONFIGS])
def test_configs_of_own_data_build(path: Path) -> None:
    cfg = load_config(path)
    assert cfg.DATA_CONFIG.DATASET == "CustomDataset"
    spec = DataSpec.from_config(cfg.DATA_CONFIG, cfg.CLASS_NAMES)
    model = build_network(cfg.MODEL, len(cfg.CLASS_NAMES), spec)
    anchors = cfg.MODEL.DENSE_HEAD.ANCHOR_GENERATOR_CONFIG
    assert [anchor.class_name for anchor in anchors] == cfg.CLASS_NAMES
    stride = anchors[0].feature_map_stride
    cells = int(spec.grid_size[0]) // stride * (int(spec.grid_size[1]) // stride)
    assert len(model.dense_head.flat_anchors) == cells * len(anchors) * 2
    backbone = cfg.MODEL.BACKBONE_2D
    product = 8 if cfg.MODEL.NAME == "SECONDNet" else 1
    upsampled = product * backbone.LAYER_STRIDES[0] / backbone.UPSAMPLE_STRIDES[0]
    assert upsampled == stride
