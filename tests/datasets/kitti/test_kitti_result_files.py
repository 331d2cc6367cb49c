"""KITTI's result files are read back as they were written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_kitti import TinyKitti, fill

from pcdet_distill.datasets.kitti.calibration import Calibration
from pcdet_distill.datasets.kitti.predictions import KEYS, anno_of_boxes, write_result_file
from pcdet_distill.datasets.kitti.result_files import read_result_file, result_files
from pcdet_distill.errors import DataError

LINE = "Car -1 -1 0.1 1 2 3 4 1.5 1.6 3.9 2 1.7 20 0.3 0.9"


@pytest.fixture
def calib(tmp_path: Path) -> Calibration:
    """A camera that is turned and moved against the LiDAR."""
    kitti = TinyKitti(tmp_path / "kitti")
    fill(kitti)
    return Calibration.from_file(sorted((kitti.root / "training/calib").glob("*.txt"))[0])


def test_written_detections_are_read_back(tmp_path: Path, calib: Calibration) -> None:
    random = np.random.default_rng(0)
    boxes = random.uniform([10, -8, -2, 3, 1, 1, -3], [40, 8, 0, 5, 2, 2, 3], (20, 7))
    scores = random.uniform(0, 1, 20)
    names = np.array(["Car", "Fork_lift"] * 10)
    anno = anno_of_boxes(boxes, scores, names, calib=calib, image_shape=np.array([375, 1242]))
    write_result_file(tmp_path / "000001.txt", anno)
    found = read_result_file(tmp_path / "000001.txt", calib)
    assert set(found) == set(KEYS)
    assert found["name"].tolist() == names.tolist()
    for key in ("alpha", "bbox", "dimensions", "location", "rotation_y", "score"):
        np.testing.assert_allclose(found[key], anno[key], atol=6e-5)
    np.testing.assert_allclose(found["boxes_lidar"][:, :6], boxes[:, :6], atol=5e-4)
    turned = found["boxes_lidar"][:, 6] - boxes[:, 6]
    np.testing.assert_allclose(np.cos(turned), 1, atol=1e-6)


def test_an_empty_file_needs_no_calibration(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\nDontCare -1 -1 -10 0 0 1 1 -1 -1 -1 -1000 -1000 -1000 -10\n")
    found = read_result_file(tmp_path / "a.txt", None)
    assert len(found["name"]) == 0 and found["boxes_lidar"].shape == (0, 7)
    assert found["bbox"].shape == (0, 4)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LINE, "calibration of this frame is not known"),
        (LINE.rsplit(" ", 1)[0], "line 1: is a label without a score"),
        (LINE + " 3", "line 1: has 17 fields, expected 15 or 16"),
        (LINE.replace("0.9", "high"), "line 1: its score is 'high', expected a finite number"),
        (LINE.replace("0.9", "nan"), "line 1: its score is nan, expected a finite number"),
    ],
)
def test_what_is_no_detection_is_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(DataError, match=words):
        read_result_file(tmp_path / "a.txt", None)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a frame without detections has an empty file"):
        read_result_file(tmp_path / "none.txt", None)
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read as a result file"):
        read_result_file(tmp_path / "a.txt", None)


def test_where_result_files_are_looked_for(tmp_path: Path) -> None:
    data = tmp_path / "final_result" / "data"
    data.mkdir(parents=True)
    (tmp_path / "log_train.txt").write_text("2025-01-01 start training\n")
    assert result_files(tmp_path) == {}
    (data / "000002.txt").write_text("")
    assert result_files(tmp_path) == {}, "no file holds a detection"
    (data / "000001.txt").write_text(LINE)
    expected = {"000001": data / "000001.txt", "000002": data / "000002.txt"}
    for folder in (tmp_path, data.parent, data):
        assert result_files(folder) == expected
