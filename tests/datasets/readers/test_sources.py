"""The clouds behind a path, one by one, and as a model expects them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cloud_writers import scan
from test_bags import write_bag

from pcdet_distill.datasets.readers import ModelInput, PointCloud, open_clouds
from pcdet_distill.errors import DataError

NAMES = ("x", "y", "z", "intensity", "ring")


@pytest.mark.parametrize("kind", ["bag", "mcap", "folder"])
def test_messages_of_a_recording_are_read_in_any_order(tmp_path: Path, kind: str) -> None:
    clouds = [scan(40, seed) for seed in range(4)]
    path = write_bag(tmp_path, kind, {"/lidar": clouds})
    source = open_clouds(path)
    assert len(source) == 4
    for index in (0, 1, 3, 2, 2, 0):
        np.testing.assert_array_equal(source.read(index).points, clouds[index])
    assert source.place(3) == f"{path}, message 3 of /lidar"
    assert source.name(3) == f"{path.stem}_000003"
    assert source.names_columns(0)


def test_a_topic_of_several_is_chosen(tmp_path: Path) -> None:
    path = write_bag(tmp_path, "bag", {"/front": [scan(10)], "/rear": [scan(20)]})
    with pytest.raises(DataError, match="several topics"):
        open_clouds(path)
    assert len(open_clouds(path, topic="/rear").read(0).points) == 20


def test_files_of_a_folder(tmp_path: Path) -> None:
    scan(40)[:, :4].tofile(tmp_path / "b.bin")
    scan(50)[:, :4].tofile(tmp_path / "a.bin")
    np.save(tmp_path / "c.npy", scan(60))
    source = open_clouds(tmp_path)
    assert [source.name(index) for index in range(len(source))] == ["a", "b"]
    assert not source.names_columns(0)
    assert len(source.read(0).points) == 50
    assert open_clouds(tmp_path, ".npy").place(0) == str(tmp_path / "c.npy")
    (tmp_path / "a.bin").rename(tmp_path / "a.txt")
    (tmp_path / "b.bin").rename(tmp_path / "a.pcd")
    with pytest.raises(DataError, match=r"no '\*.bin' file; it holds .npy, .pcd; --ext names"):
        open_clouds(tmp_path)


def cloud(points: np.ndarray, features=NAMES) -> PointCloud:
    return PointCloud(points.astype(np.float32), tuple(features))


def test_a_model_gets_its_columns_in_its_order() -> None:
    points, warnings = ModelInput(("x", "y", "z", "ring")).points(cloud(scan(9)), "scan")
    np.testing.assert_array_equal(points, scan(9)[:, [0, 1, 2, 4]])
    assert warnings == []


def test_a_model_of_sweeps_gets_time_zero() -> None:
    model = ModelInput((*NAMES[:4], "timestamp"), "NuScenesDataset")
    bright = scan(9) * [1, 1, 1, 255, 1]
    points, warnings = model.points(cloud(bright), "scan")
    np.testing.assert_array_equal(points[:, 4], 0)
    assert warnings == ["it has no timestamp, so its points count as one sweep, at 0 s"]
    times = np.linspace(0, 0.45, 9)
    timed = cloud(np.column_stack([bright[:, :4], times]), (*NAMES[:4], "timestamp"))
    points, warnings = model.points(timed, "scan")
    np.testing.assert_array_equal(points[:, 4], times.astype(np.float32))
    assert warnings == []


def test_a_message_without_points_is_an_input_without_points() -> None:
    points, warnings = ModelInput(NAMES[:4]).points(cloud(np.zeros((0, 5))), "scan")
    assert points.shape == (0, 4)
    assert warnings == ["it holds no points"]


def test_rings_in_the_place_of_times_are_warned_of() -> None:
    model = ModelInput((*NAMES[:4], "timestamp"))
    _, warnings = model.points(cloud(scan(64), (*NAMES[:4], "timestamp")), "scan")
    assert warnings == ["timestamp reaches 31, expected seconds since the sweep (a ring number?)"]


@pytest.mark.parametrize(
    ("dataset", "highest", "told"),
    [
        ("KittiDataset", 1.0, None),
        ("KittiDataset", 255.0, "--divide_intensity 255 "),
        ("KittiDataset", 60_000.0, "--divide_intensity 65535 "),
        ("NuScenesDataset", 255.0, None),
        ("NuScenesDataset", 1.0, "--divide_intensity 0.00392157 "),
        ("SomebodysDataset", 255.0, None),
    ],
)
def test_the_scale_of_the_training_data_is_compared(dataset, highest: float, told) -> None:
    points = scan(100) * [1, 1, 1, highest, 1]
    _, warnings = ModelInput(NAMES, dataset).points(cloud(points), "scan")
    if told is None:
        assert warnings == []
    else:
        assert told in warnings[0]
        assert dataset in warnings[0]


def test_intensities_that_the_model_does_not_read_are_no_matter() -> None:
    points = scan(100) * [1, 1, 1, 255, 1]
    assert ModelInput(("x", "y", "z"), "KittiDataset").points(cloud(points), "scan")[1] == []
