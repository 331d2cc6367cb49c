"""Which files of a folder are clouds, in the layouts of data sets too."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_argoverse2 import write_log, write_table

from pcdet_distill.datasets.readers import find_clouds, open_clouds
from pcdet_distill.errors import DataError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")


def test_clouds_of_a_folder_come_in_order(tmp_path: Path) -> None:
    touch(tmp_path, "b.pcd", "a.PCD", "c.txt", ".d.pcd", "ä 1.bin", "below/e.pcd")
    assert [file.name for file in find_clouds(tmp_path)] == ["a.PCD", "b.pcd", "ä 1.bin"]


def test_clouds_of_subfolders_are_found(tmp_path: Path) -> None:
    touch(tmp_path, "x/2.ply", "x/1.ply", "a/3.ply", "notes.txt")
    found = [file.relative_to(tmp_path).as_posix() for file in find_clouds(tmp_path)]
    assert found == ["a/3.ply", "x/1.ply", "x/2.ply"]


def test_a_folder_without_clouds_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no point clouds; expected files .bin, .feather"):
        find_clouds(tmp_path)
    with pytest.raises(DataError, match="nowhere: no such folder"):
        find_clouds(tmp_path / "nowhere")


def write_whole_log(log: Path, *, flat: bool = False) -> Path:
    """A log with the further tables and the map that a download has."""
    write_log(log, 2, flat=flat)
    write_table(log / "calibration" / "egovehicle_SE3_sensor.feather", {"tx_m": [1.0]})
    write_table(log / "calibration" / "intrinsics.feather", {"fx_px": [1.0]})
    touch(log, "map/log__ground_height_surface____PIT.npy", "map/log_map_archive.json")
    return log


@pytest.mark.parametrize("flat", [False, True])
def test_clouds_of_an_argoverse_log_are_its_sweeps(tmp_path: Path, flat: bool) -> None:
    log = write_whole_log(tmp_path / "log", flat=flat)
    found = find_clouds(log)
    assert len(found) == 2
    assert all(file.stem.isdigit() for file in found)
    source = open_clouds(log)
    assert [source.place(index) for index in range(len(source))] == list(map(str, found))
    assert source.read(1).features[:4] == ("x", "y", "z", "intensity")


def test_a_log_without_sweeps_holds_no_clouds(tmp_path: Path) -> None:
    log = write_whole_log(tmp_path / "log")
    for sweep in find_clouds(log):
        sweep.unlink()
    with pytest.raises(DataError, match="log: holds no point clouds; expected files"):
        find_clouds(log)
    with pytest.raises(DataError, match=r"log: holds no '\*.bin' file; --ext names"):
        open_clouds(log)


def test_clouds_of_one_name_in_two_folders_have_two_names(tmp_path: Path) -> None:
    touch(tmp_path, "a/lidar/1.bin", "b/lidar/1.bin", "b/lidar/2.bin")
    source = open_clouds(tmp_path)
    assert [source.name(index) for index in range(3)] == ["a_lidar_1", "b_lidar_1", "2"]
