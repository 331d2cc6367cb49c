"""The centre head has OpenPCDet's parameters and buffers.

This holds for detectors too that other slots keep from being built here.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pcdet_distill.config import load_config
from pcdet_distill.datasets.spec import DataSpec
from pcdet_distill.models.dense_heads.center_head import CenterHead

PREFIX = "dense_head."


@pytest.mark.golden("manifests/*.json")
def test_state_dict(golden_file: Path, repo: Path) -> None:
    manifest = json.loads(golden_file.read_text())
    if "CenterHead" not in manifest.get("module_list", []):
        pytest.skip(f"{golden_file.name} describes no detector with a centre head")
    cfg = load_config(repo / "cfgs" / manifest["config"])
    spec = DataSpec.from_config(cfg.DATA_CONFIG, cfg.CLASS_NAMES)
    expected = [
        [key.removeprefix(PREFIX), shape, dtype]
        for key, shape, dtype in manifest["state_dict"]
        if key.startswith(PREFIX)
    ]
    head = CenterHead(
        model_cfg=cfg.MODEL.DENSE_HEAD,
        input_channels=expected[0][1][1],
        num_class=len(cfg.CLASS_NAMES),
        class_names=cfg.CLASS_NAMES,
        grid_size=spec.grid_size,
        voxel_size=spec.voxel_size,
        point_cloud_range=spec.point_cloud_range,
    )
    state = []
    for key, value in head.state_dict().items():
        state.append([key, list(value.shape), str(value.dtype).removeprefix("torch.")])
    assert state == expected
