"""pcdet-distill export: the files, the printed proof, and one sentence for what cannot be done."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small_detectors import CONFIG, random_cloud, write_checkpoint
from small_exports import enliven

from pcdet_distill.checkpoint import save_checkpoint
from pcdet_distill.cli import main
from pcdet_distill.config import load_config
from pcdet_distill.datasets import DataSpec
from pcdet_distill.datasets.kitti.kitti_infos import create_kitti_infos
from pcdet_distill.datasets.synthetic import create_synthetic_kitti
from pcdet_distill.errors import ConfigError, DataError
from pcdet_distill.export import OpenVinoRunner, command, load_exported
from pcdet_distill.export.boxes import FrameBoxes
from pcdet_distill.export.network import check_exportable
from pcdet_distill.export.same_boxes import without_excuse
from pcdet_distill.inference import Detections, load_detector
from pcdet_distill.models import build_network

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, simulated frames, and clouds."""
    folder = tmp_path_factory.mktemp("project")
    detector = load_detector(CONFIG, write_checkpoint(folder / "student.pth"), device="cpu")
    enliven(detector.model)
    save_checkpoint({"model_state": detector.model.state_dict()}, folder / "student.pth")
    create_synthetic_kitti(folder / "data", 3, seed=1, val_frames=2, workers=1, progress=False)
    create_kitti_infos(folder / "data", show_progress=False)
    clouds = folder / "clouds"
    clouds.mkdir()
    random_cloud(1).tofile(clouds / "0.bin")
    random_cloud(2, num_points=1).tofile(clouds / "1.bin")
    return folder


def export(project: Path, out: Path, *arguments: object) -> None:
    words = ["--cfg_file", CONFIG, "--ckpt", project / "student.pth", "--out", out, *arguments]
    main(["export", *(str(word) for word in words)])


def error_of(capsys: pytest.CaptureFixture[str], project: Path, out: Path, *arguments: object):
    """The one line that a refused export prints."""
    with pytest.raises(SystemExit) as stop:
        export(project, out, *arguments)
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    return message


def as_frame(found: Detections) -> FrameBoxes:
    return FrameBoxes(found.boxes, found.scores, found.labels)


def test_a_split_is_exported_checked_and_evaluated(project, tmp_path, capsys) -> None:
    out = tmp_path / "robot"
    export(project, out, "--set", "DATA_CONFIG.DATA_PATH", project / "data")
    text = capsys.readouterr().out
    # Two frames of val, and the first with no pillar and with one.
    assert "check: 4 frames: raw outputs differ by" in text
    assert "0 to " in text and " pillars" in text
    assert "torch" in text and "onnxruntime" in text
    table = [line.split() for line in text.splitlines() if line.startswith("Car_3d")]
    assert table and all(row[1] == row[2] for row in table)
    assert {"model.onnx", "config.json", "detect.py"} <= {path.name for path in out.iterdir()}
    config = json.loads((out / "config.json").read_text())
    assert config["checkpoint"] == "student.pth"


def test_point_files_stand_in_for_a_split(project, tmp_path, capsys) -> None:
    export(project, tmp_path / "out", "--data_path", project / "clouds", "--divide_intensity", 255)
    text = capsys.readouterr().out
    assert "check: 4 frames" in text
    assert "Car_3d" not in text
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["points"]["scale"] == [1.0, 1.0, 1.0, pytest.approx(1 / 255)]


@pytest.mark.parametrize("openvino", [False, True])
def test_the_folder_gives_the_checkpoints_boxes_on_other_clouds(
    project, tmp_path, openvino: bool
) -> None:
    if openvino:
        pytest.importorskip("openvino")
    export(project, tmp_path / "out", "--data_path", project / "clouds")
    detector = load_detector(CONFIG, project / "student.pth", device="cpu")
    runner = {"make_runner": OpenVinoRunner} if openvino else {}
    exported = load_exported(tmp_path / "out", detector, **runner)
    for seed, size in ((5, 2000), (6, 1), (7, 50)):
        cloud = random_cloud(seed, size)
        expected = detector(cloud)
        comparison = without_excuse(as_frame(expected), as_frame(exported(cloud)))
        assert comparison.num_same == len(expected) > 0
        assert comparison.is_same


def test_clouds_that_are_odd(project, tmp_path) -> None:
    export(project, tmp_path / "out", "--data_path", project / "clouds")
    detector = load_detector(CONFIG, project / "student.pth", device="cpu")
    exported = load_exported(tmp_path / "out", detector)
    holes = random_cloud(8)
    holes[::3, 0] = np.nan
    clean = holes[~np.isnan(holes[:, 0])]
    np.testing.assert_array_equal(exported(holes).boxes, exported(clean).boxes)
    many = random_cloud(9, 2_000_000)
    assert without_excuse(as_frame(detector(many)), as_frame(exported(many))).is_same
    assert np.isfinite(exported(np.zeros((0, 4), np.float32)).boxes).all()


def test_a_network_of_another_config_is_refused(project, tmp_path) -> None:
    export(project, tmp_path / "out", "--data_path", project / "clouds")
    detector = load_detector(CONFIG, project / "student.pth", device="cpu")
    with open(tmp_path / "out" / "model.onnx", "ab") as file:
        file.write(b" ")
    with pytest.raises(DataError, match="is not the network that config.json beside it"):
        load_exported(tmp_path / "out", detector)
    (tmp_path / "out" / "model.onnx").unlink()
    with pytest.raises(DataError, match="model.onnx: cannot be read"):
        load_exported(tmp_path / "out", detector)


def test_a_network_that_disagrees_leaves_nothing_behind(
    project, tmp_path, capsys, monkeypatch
) -> None:
    whole = command.export_detector

    def broken(detector, checkpoint, *, opset=None):
        result = whole(detector, checkpoint, opset=opset)
        with torch.no_grad():
            detector.model.backbone_2d.blocks[0][1].weight += 0.1
        return result

    monkeypatch.setattr(command, "export_detector", broken)
    out = tmp_path / "new" / "out"
    message = error_of(capsys, project, out, "--data_path", project / "clouds")
    assert "the first tensor that differs is 'backbone_2d.blocks.0.2', by " in message
    assert not (tmp_path / "new").exists()


def test_the_checkpoint_of_another_yaml(project, tmp_path, capsys) -> None:
    other = write_checkpoint(tmp_path / "other.pth", "synthetic/pointpillar_teacher.yaml")
    message = error_of(capsys, project, tmp_path / "out", "--ckpt", other)
    assert "other.pth" in message and "of another shape" in message
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written(project, tmp_path, capsys) -> None:
    (tmp_path / "file").write_text("")
    message = error_of(capsys, project, tmp_path / "file")
    assert "file' is not a folder; expected a folder you may write in" in message
    message = error_of(capsys, project, tmp_path / "file" / "below")
    assert "file' is not a folder; expected a folder you may write in" in message


def test_without_data_the_other_way_is_named(project, tmp_path, capsys) -> None:
    arguments = ("--set", "DATA_CONFIG.DATA_PATH", tmp_path / "absent")
    message = error_of(capsys, project, tmp_path / "out", *arguments)
    assert "--data_path" in message and "absent" in message


def test_another_split(project, tmp_path, capsys) -> None:
    data = ("--set", "DATA_CONFIG.DATA_PATH", project / "data")
    message = error_of(capsys, project, tmp_path / "out", "--split", "vall", *data)
    assert "--split" in message and "did you mean 'val'" in message
    export(project, tmp_path / "out", "--split", "train", "--no_eval", *data)
    # The one frame of train, without a pillar and with one too.
    assert "check: 3 frames" in capsys.readouterr().out


def test_a_folder_without_clouds(project, tmp_path, capsys) -> None:
    (tmp_path / "empty").mkdir()
    message = error_of(capsys, project, tmp_path / "out", "--data_path", tmp_path / "empty")
    assert "empty" in message


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_without_the_packages(project, tmp_path, capsys, monkeypatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    message = error_of(capsys, project, tmp_path / "out", "--data_path", project / "clouds")
    assert f"export needs the package {package} (" in message
    assert 'pip install "pcdet_distill[export]"' in message


@pytest.mark.parametrize(
    ("config", "part"),
    [
        ("kitti_models/pointrcnn.yaml", "PointRCNNHead is a second stage"),
        ("kitti_models/pv_rcnn.yaml", "PVRCNNHead is a second stage"),
        ("kitti_models/second_iou.yaml", "SECONDHead is a second stage"),
        ("nuscenes_models/transfusion_lidar.yaml", "dense_head is TransFusionHead"),
        ("nuscenes_models/cbgs_voxel0075_voxelnext.yaml", "dense_head is VoxelNeXtHead"),
    ],
)
def test_what_cannot_be_exported_is_named(config: str, part: str) -> None:
    cfg = load_config(config)
    spec = DataSpec.from_config(cfg.DATA_CONFIG, cfg.CLASS_NAMES)
    with pytest.raises(ConfigError, match="cannot be exported: its ") as error:
        check_exportable(build_network(cfg.MODEL, len(cfg.CLASS_NAMES), spec))
    assert part in str(error.value)
    assert "what can be exported is PointPillars" in str(error.value)
