"""The recording for Rerun, read back by Rerun."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from pcdet_distill.errors import ConfigError, UserError
from pcdet_distill.report.rerun_file import write_rerun
from pcdet_distill.report.viewer import ViewedBoxes, ViewedFrame

POINTS = np.random.RandomState(0).uniform(-20, 20, (200, 3)).astype(np.float32)
CAR = ViewedBoxes(
    boxes=np.array([[10.0, 5, -1, 4, 2, 1.5, 0.3]]),
    names=["Car"],
    num_points=np.array([3]),
    scores=np.array([0.9]),
)
FRAMES = [
    ViewedFrame("000001", POINTS, None, {"student": CAR}),
    ViewedFrame("000002", POINTS[:50]),
]


def rows_of(path: Path, entity: str, column: str) -> dict[int, np.ndarray]:
    """Frame number -> the values of a column of an entity."""
    reader = pytest.importorskip("rerun.chunk").RrdReader(path)
    found = {}
    for chunk in reader.stream():
        if chunk.entity_path == entity and column in chunk.to_record_batch().schema.names:
            batch = chunk.to_record_batch()
            values = batch.column(column).to_pylist()
            found.update(zip(batch.column("frame").to_pylist(), values))
    return found


def test_points_and_boxes_come_back_by_frame(tmp_path: Path):
    pytest.importorskip("rerun")
    path = write_rerun(FRAMES, tmp_path / "new" / "view.rrd")
    points = rows_of(path, "/world/points", "Points3D:positions")
    assert sorted(points) == [0, 1]
    np.testing.assert_allclose(points[0], POINTS)
    np.testing.assert_allclose(points[1], POINTS[:50])
    np.testing.assert_allclose(
        rows_of(path, "/world/student", "Boxes3D:half_sizes")[0], [[2, 1, 0.75]]
    )
    assert rows_of(path, "/world/student", "Boxes3D:labels")[0] == ["Car 0.90"]
    (turn,) = rows_of(path, "/world/student", "Boxes3D:quaternions")[0]
    np.testing.assert_allclose(turn, [0, 0, np.sin(0.15), np.cos(0.15)], atol=1e-6)


def test_boxes_do_not_stay_in_a_frame_without_any(tmp_path: Path):
    pytest.importorskip("rerun")
    path = write_rerun(FRAMES, tmp_path / "view.rrd")
    half_sizes = rows_of(path, "/world/student", "Boxes3D:half_sizes")
    assert half_sizes[1] == []


def test_a_recording_that_cannot_be_written_is_one_sentence(tmp_path: Path):
    pytest.importorskip("rerun")
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ConfigError, match=r"--rerun .*view\.rrd: cannot be written"):
        write_rerun(FRAMES, tmp_path / "file" / "view.rrd")


def test_a_name_that_is_too_long_is_one_sentence(tmp_path: Path):
    pytest.importorskip("rerun")
    path = tmp_path / f"{250 * 'a'}.rrd"
    with pytest.raises(ConfigError) as caught:
        write_rerun(FRAMES, path)
    assert str(caught.value).startswith(f"--rerun {path}: cannot be written (")
    assert str(caught.value).endswith("File name too long)")
    assert list(tmp_path.iterdir()) == []


def test_without_rerun_one_sentence_says_what_brings_it(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(
        UserError, match=r'^--rerun needs the package rerun .*pip install "pcdet_distill\[rerun\]"'
    ):
        write_rerun(FRAMES, tmp_path / "view.rrd")
