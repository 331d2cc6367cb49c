"""tools/create_data.py as its users call it: exit code, one sentence, nothing half-written."""

from __future__ import annotations

import copy
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from easydict import EasyDict
from tiny_kitti import DATA_CONFIG, TinyKitti

from pcdet_distill.config import load_config, to_plain
from pcdet_distill.datasets import build_dataset
from pcdet_distill.datasets.synthetic import create_synthetic_kitti
from pcdet_distill.errors import DataError

FRAMES = [f"{number:06d}" for number in range(4)]


def create(repo: Path, data_config, root: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run ``create_data.py kitti`` from another folder, on a yaml that names ``root``."""
    data_config.DATA_PATH = str(root)
    config = root.parent / "dataset.yaml"
    config.write_text(yaml.safe_dump(to_plain(data_config)))
    tool = repo / "tools" / "create_data.py"
    command = [sys.executable, str(tool), "kitti", str(config), "--workers", "1", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=root.parent, timeout=120)


@pytest.fixture
def data_config() -> EasyDict:
    """A DATA_CONFIG for the tiny folder; DATA_PATH is to be set."""
    return EasyDict(copy.deepcopy(DATA_CONFIG))


@pytest.fixture
def unsplit(tmp_path: Path) -> TinyKitti:
    """A folder whose split files are missing."""
    tiny = TinyKitti(tmp_path / "kitti")
    for frame_id in FRAMES:
        tiny.frame(frame_id, [("Car", 10.0, 2.0)])
    return tiny


def test_from_points_to_infos(repo: Path, data_config, unsplit) -> None:
    missing = create(repo, data_config, unsplit.root)
    assert missing.returncode == 2
    assert missing.stderr.count("\n") == 1
    assert "train.txt" in missing.stderr
    assert "--make_split" in missing.stderr
    made = create(repo, data_config, unsplit.root, "--make_split", "0.75", "--make_planes")
    assert made.returncode == 0, made.stderr
    assert "infos of 3 train, 1 val, 4 trainval frames, 3 objects in gt_database" in made.stdout
    assert (unsplit.root / "kitti_dbinfos_train.pkl").is_file()
    assert len(list((unsplit.root / "training" / "planes").glob("*.txt"))) == 4


def test_bad_frame(repo: Path, data_config, unsplit) -> None:
    unsplit.split(train=FRAMES, val=FRAMES)
    unsplit.path("velodyne", "000002").write_bytes(b"x" * 30)
    result = create(repo, data_config, unsplit.root)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "000002.bin: 30 bytes" in result.stderr
    assert sorted(path.name for path in unsplit.root.iterdir()) == ["ImageSets", "training"]


def test_missing_folder(repo: Path, data_config, tmp_path: Path) -> None:
    result = create(repo, data_config, tmp_path / "nowhere")
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert "synthetic --out" in result.stderr


def test_a_simulated_folder_trains_with_kittis_yaml(repo: Path, tmp_path: Path) -> None:
    """The error about missing files names one command, and after that nothing is missing."""
    folder = tmp_path / "simulated frames"
    create_synthetic_kitti(folder, frames=3, val_frames=1, workers=0, progress=False)
    config = load_config(repo / "cfgs" / "dataset_configs" / "kitti_dataset.yaml")
    config.DATA_PATH = str(folder)
    with pytest.raises(DataError, match="--make_planes") as missing:
        build_dataset(config, ["Car", "Pedestrian", "Cyclist"], training=True)
    (words,) = re.findall(r"'pcdet-distill ([^']*)'", str(missing.value))
    command = [sys.executable, "-m", "pcdet_distill", *shlex.split(words)]
    made = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    item = build_dataset(config, ["Car", "Pedestrian", "Cyclist"], training=True)[0]
    assert len(item["gt_boxes"]) > 0
