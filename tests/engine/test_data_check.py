"""Doubts about the data in the log of a training: once, before it, and never its end."""

from __future__ import annotations

import argparse
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from easydict import EasyDict

from pcdet_distill.config import load_config, to_plain
from pcdet_distill.datasets import build_dataset
from pcdet_distill.datasets.kitti.kitti_infos import create_kitti_infos
from pcdet_distill.datasets.synthetic import create_synthetic_kitti
from pcdet_distill.engine.data_check import report_doubts
from pcdet_distill.engine.train import add_train_arguments, run_training
from pcdet_distill.errors import DataError

YAML = "cfgs/synthetic/pointpillar_student.yaml"
TITLE = "doubts about the data"


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated KITTI folder of six training frames."""
    folder = tmp_path_factory.mktemp("checked") / "kitti"
    create_synthetic_kitti(str(folder), 8, 3, val_frames=2, workers=1)
    create_kitti_infos(folder, show_progress=False)
    return folder


@pytest.fixture
def folder(healthy: Path, tmp_path: Path) -> Path:
    """A copy that may be spoiled."""
    return Path(shutil.copytree(healthy, tmp_path / "kitti"))


def first_cloud(folder: Path) -> Path:
    name = (folder / "ImageSets" / "train.txt").read_text().split()[0]
    return folder / "training" / "velodyne" / f"{name}.bin"


def config_of(folder: Path) -> EasyDict:
    config = load_config(YAML)
    config.DATA_CONFIG.DATA_PATH = str(folder)
    config.DATA_CONFIG.DATA_AUGMENTOR.AUG_CONFIG_LIST = []
    return config


def check(folder: Path, caplog: pytest.LogCaptureFixture, **options: bool) -> list[str]:
    """The warnings of a check."""
    config = config_of(folder)
    dataset = build_dataset(config.DATA_CONFIG, config.CLASS_NAMES, training=True, **options)
    with caplog.at_level(logging.WARNING):
        caplog.clear()
        report_doubts(dataset, logging.getLogger("test.data_check"), limit_s=60)
    return caplog.messages


def cut(folder: Path) -> Path:
    """Cut the first cloud between two points."""
    file = first_cloud(folder)
    file.write_bytes(file.read_bytes()[:-1600])
    return file


def spoil_with_nan(folder: Path) -> Path:
    file = first_cloud(folder)
    values = np.fromfile(file, dtype=np.float32)
    values[4] = np.nan
    values.tofile(file)
    return file


def test_healthy_data_gets_no_line(folder: Path, caplog) -> None:
    assert check(folder, caplog) == []


def test_a_doubt_has_two_lines_below_the_title(folder: Path, caplog) -> None:
    file = cut(folder)
    title, what, remedy = check(folder, caplog)
    assert title.startswith(f"{TITLE} in {folder}, from a sample of 6 of 6 frames")
    assert f"file size     1 of 6 frames ({file.stem})" in what
    assert "remedy: copy these files again" in remedy


def test_nan_is_an_error(folder: Path, caplog) -> None:
    file = spoil_with_nan(folder)
    with pytest.raises(DataError, match=f"frame {file.stem}: .*hold NaN or infinity"):
        check(folder, caplog)
    assert any("unreadable    1 of 6 frames" in line for line in caplog.messages)


def test_nan_in_a_frame_that_is_skipped(folder: Path, caplog) -> None:
    spoil_with_nan(folder)
    title, what, remedy = check(folder, caplog, skip_bad_frames=True)
    assert title.startswith(TITLE)
    assert "hold NaN or infinity" in what
    assert "remedy: mend these frames" in remedy


def test_data_sets_of_other_classes_are_not_looked_at(caplog) -> None:
    with caplog.at_level(logging.WARNING):
        report_doubts(object(), logging.getLogger("test.data_check"))
    assert caplog.messages == []


def test_a_training_says_it_once_and_goes_on(folder: Path, tmp_path: Path) -> None:
    """Resumed for a second epoch, it does not say it again."""
    cut(folder)
    config = config_of(folder)
    for key in ("ROOT_DIR", "TAG", "EXP_GROUP_PATH", "CONFIG_FILE"):
        del config[key]
    path = tmp_path / "cfgs" / "toys" / "checked.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(yaml.safe_dump(to_plain(config)))
    parser = add_train_arguments(argparse.ArgumentParser())
    flags = ["--cfg_file", str(path), "--batch_size", "2", "--workers", "0", "--device", "cpu"]
    for epochs in ("1", "2"):
        run_training(parser.parse_args([*flags, "--fix_random_seed", "--epochs", epochs]))
    output = tmp_path / "output" / "toys" / "checked" / "default"
    logs = [log.read_text() for log in sorted(output.glob("train_*.log"))]
    assert (output / "ckpt" / "checkpoint_epoch_2.pth").is_file()
    assert "".join(logs).count(TITLE) == 1
    assert "WARNING    file size     1 of 6 frames" in "".join(logs)
