"""docs/runtime.md and docs/hub.md: their Python blocks run, and their tables are complete."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_detectors import CONFIG, random_cloud, write_checkpoint

from pcdet_distill.cli import export as export_command
from pcdet_distill.export.exporter import export_detector, model_bytes
from pcdet_distill.export.folder import write_runtime_folder
from pcdet_distill.export.hub_command import add_hub_arguments
from pcdet_distill.inference import load_detector

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("safetensors")

RUNTIME = Path("docs/runtime.md")
HUB = Path("docs/hub.md")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an exported detector, its hub folder and a cloud."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "detect", raising=False)
    checkpoint = write_checkpoint(tmp_path / "student.pth")
    detector = load_detector(CONFIG, checkpoint, device="cpu")
    export = export_detector(detector, checkpoint)
    write_runtime_folder("robot", model_bytes(export.model), export.config)
    export_command(
        ["--format", "hub", "--cfg_file", CONFIG, "--ckpt", "student.pth", "--out", "hub"]
    )
    random_cloud(num_points=5000).tofile(tmp_path / "cloud.bin")
    return tmp_path


def run_blocks(page: Path) -> dict[str, Any]:
    """The names that the page's Python blocks leave."""
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        exec(code, names)
    return names


def test_the_blocks_of_the_runtime_run(repo: Path, folder: Path) -> None:
    names = run_blocks(repo / RUNTIME)
    sys.modules.pop("detect", None)
    assert names["detector"].features == ["x", "y", "z", "intensity"]
    assert len(names["boxes"]) == len(names["scores"]) == len(names["names"]) > 0


def test_the_blocks_of_the_hub_run(repo: Path, folder: Path) -> None:
    names = run_blocks(repo / HUB)
    expected = load_detector(CONFIG, folder / "student.pth", device="cpu")("cloud.bin")
    np.testing.assert_array_equal(names["found"].boxes, expected.boxes)


@pytest.mark.parametrize(("page", "name"), [(RUNTIME, "robot"), (HUB, "hub")])
def test_the_tables_name_every_file(repo: Path, folder: Path, page: Path, name: str) -> None:
    named = set(re.findall(r"\n\| `([\w.]+\.\w+)` \|", (repo / page).read_text()))
    assert named == {file.name for file in (folder / name).iterdir()}


def test_the_flags_of_the_card_are_told(repo: Path) -> None:
    parser = argparse.ArgumentParser(add_help=False)
    add_hub_arguments(parser)
    text = (repo / HUB).read_text()
    for action in parser._actions:
        assert f"| `{action.option_strings[0]} " in text, action.dest
