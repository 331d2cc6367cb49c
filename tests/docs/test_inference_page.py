"""docs/inference.md: its Python blocks run one after the other, and its tables are complete."""

from __future__ import annotations

import dataclasses
import json
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pcdet_distill.checkpoint import save_checkpoint
from pcdet_distill.config import load_config
from pcdet_distill.datasets import DataSpec
from pcdet_distill.inference import BoxSettings, Detections
from pcdet_distill.models import build_network

PAGE = Path("docs/inference.md")
CHECKPOINTS = {
    "student.pth": "synthetic/pointpillar_student.yaml",
    "nuscenes.pth": "synthetic/nuscenes/pp_multihead_student.yaml",
}
CALIB = """P2: 700 0 600 45 0 700 180 0.2 0 0 1 0.003
R0_rect: 1 0 0 0 1 0 0 0 1
Tr_velo_to_cam: 0 -1 0 0.01 0 0 -1 -0.08 1 0 0 -0.27
"""


def write_checkpoint(path: Path, config: str) -> None:
    """An untrained detector, with scores of about one half so that it finds something."""
    cfg = load_config(config)
    torch.manual_seed(0)
    spec = DataSpec.from_config(cfg.DATA_CONFIG, cfg.CLASS_NAMES)
    model = build_network(cfg.MODEL, len(cfg.CLASS_NAMES), spec)
    for name, parameter in model.named_parameters():
        if re.search(r"conv_cls\.(\d+\.)?bias$", name):
            torch.nn.init.constant_(parameter, 0.0)
    save_checkpoint({"model_state": model.state_dict()}, path)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the page's blocks read."""
    monkeypatch.chdir(tmp_path)
    for file, config in CHECKPOINTS.items():
        write_checkpoint(tmp_path / file, config)
    for name in ("scans", "calib"):
        (tmp_path / name).mkdir()
    (tmp_path / "calib" / "000000.txt").write_text(CALIB)
    for number in range(3):
        random = np.random.RandomState(number)
        points = random.uniform([0, -10, -2, 0], [40, 10, 1, 1], (800, 4))
        points.astype(np.float32).tofile(tmp_path / "scans" / f"{number:06d}.bin")
    return tmp_path


def test_the_blocks_run_in_order(repo: Path, folder: Path, capsys) -> None:
    names: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for code in re.findall(r"```python\n(.*?)```", (repo / PAGE).read_text(), re.DOTALL):
            exec(code, names)
    lines = (folder / "000000.txt").read_text().splitlines()
    assert lines
    assert all(len(line.split()) == 16 for line in lines)
    results = json.loads((folder / "results_nusc.json").read_text())["results"]
    assert results[names["token"]][0]["detection_name"] in names["nuscenes"].class_names
    assert "are they millimetres" in capsys.readouterr().out
    assert set(names["shipped"](names["SHIPPED_SCAN"]).names) == {"Car", "Pedestrian", "Cyclist"}
    assert len(names["first"]) > 0
    np.testing.assert_allclose(names["first"].boxes, names["second"].boxes, atol=1e-4)


def test_the_tables_have_every_field_and_setting(repo: Path) -> None:
    page = (repo / PAGE).read_text()
    for of_class in (BoxSettings, Detections):
        for field in dataclasses.fields(of_class):
            assert f"\n| `{field.name}` |" in page, field.name
