"""docs/export.md: its commands and Python blocks run, and its tables are complete."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from small_detectors import random_cloud
from small_exports import enliven

from pcdet_distill.checkpoint import save_checkpoint
from pcdet_distill.cli import main
from pcdet_distill.config import load_config
from pcdet_distill.datasets import DataSpec
from pcdet_distill.errors import ConfigError
from pcdet_distill.export.command import FLAGS_OF_FORMAT, add_export_arguments
from pcdet_distill.export.network import check_exportable
from pcdet_distill.models import build_network

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

PAGE = Path("docs/export.md")
CHECKPOINTS = {
    "student.pth": "synthetic/pointpillar_student.yaml",
    "second.pth": "synthetic/second_student.yaml",
}
COMMAND = re.compile(r"^pcdet-distill (export .*)$", re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The checkpoints and clouds that the page names."""
    monkeypatch.chdir(tmp_path)
    for file, config in CHECKPOINTS.items():
        cfg = load_config(config)
        torch.manual_seed(0)
        spec = DataSpec.from_config(cfg.DATA_CONFIG, cfg.CLASS_NAMES)
        model = build_network(cfg.MODEL, len(cfg.CLASS_NAMES), spec)
        enliven(model)
        save_checkpoint({"model_state": model.state_dict()}, tmp_path / file)
    (tmp_path / "scans").mkdir()
    for number in range(2):
        random_cloud(number).tofile(tmp_path / "scans" / f"{number:06d}.bin")
    return tmp_path


def test_commands_and_blocks_run(
    repo: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (repo / PAGE).read_text()
    commands = COMMAND.findall(text)
    assert len(commands) == 2
    for command in commands:
        main(shlex.split(command))
    printed = capsys.readouterr().out
    assert "not in the file: voxel_encoder, sparse_backbone. ONNX has no sparse" in printed
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(code, names)
    expected = names["second"]("scans/000000.bin")
    assert len(names["found"]) == len(expected) > 0
    assert len(names["outputs"]) == 2
    assert names["boxes"].shape[1] == 7


def test_every_flag_of_onnx_is_told(repo: Path) -> None:
    text = (repo / PAGE).read_text()
    parser = add_export_arguments(argparse.ArgumentParser(add_help=False))
    of_hub = FLAGS_OF_FORMAT["hub"]
    for action in parser._actions:
        if action.dest not in of_hub:
            assert f"`{action.option_strings[0]}" in text or f" {action.option_strings[0]} " in text


def test_every_refused_detector_is_listed_with_its_part(repo: Path) -> None:
    """The detectors of cfgs/ that the check refuses are those of the table, with the same part."""
    text = (repo / PAGE).read_text()
    listed = set(re.findall(r"^\| [\w ,+-]+ \| `(\w+)`, ", text, re.MULTILINE))
    refused = set()
    for folder in ("kitti_models", "nuscenes_models"):
        for file in sorted((repo / "cfgs" / folder).glob("*.yaml")):
            cfg = load_config(file)
            spec = DataSpec.from_config(cfg.DATA_CONFIG, cfg.CLASS_NAMES)
            model = build_network(cfg.MODEL, len(cfg.CLASS_NAMES), spec)
            try:
                check_exportable(model)
            except ConfigError as error:
                refused.add(re.findall(r"its (?:dense_head is )?(\w+)", str(error))[0])
    assert refused == listed
