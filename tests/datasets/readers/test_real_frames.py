"""Frames of real sensors, which licences keep out of this repository: pytest --real DIR.

DIR may hold ``sustech/*.pcd``, ``av2/*.feather``, ``nuscenes/*.pcd.bin`` and
``view_of_delft/velodyne/*.bin``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pcdet_distill.datasets.readers import PointCloud, read_cloud_file

PLACE = ("x", "y", "z", "intensity")


@pytest.fixture
def clouds(request: pytest.FixtureRequest):
    def read(pattern: str) -> list[PointCloud]:
        folder = request.config.getoption("--real")
        files = [] if folder is None else sorted(Path(folder).glob(pattern))
        if not files:
            pytest.skip(f"no {pattern}; pytest --real DIR")
        return [read_cloud_file(file) for file in files]

    return read


def check_scan(cloud: PointCloud) -> None:
    """What holds for a scan of any car: a wide and flat cloud around the sensor."""
    assert len(cloud.points) > 10_000
    assert cloud.num_bad == 0
    assert cloud.offset == (0.0, 0.0, 0.0)
    place = cloud.points[:, :3]
    assert np.abs(place[:, :2]).max() < 300
    assert np.ptp(np.percentile(place[:, 0], [5, 95])) > 10
    assert np.ptp(np.percentile(place[:, 2], [5, 95])) < 15
    assert np.unique(cloud.points[:, 3]).size > 20
    assert cloud.intensity_scale == 255


def column(cloud: PointCloud, name: str) -> np.ndarray:
    return cloud.points[:, cloud.features.index(name)]


def check_rings(cloud: PointCloud) -> None:
    rings = column(cloud, "ring")
    assert (rings == np.round(rings)).all()
    assert rings.min() == 0
    assert 15 <= rings.max() < 128


def check_times(cloud: PointCloud) -> None:
    """A turn takes about a tenth of a second."""
    times_s = column(cloud, "timestamp")
    assert times_s.min() >= 0
    assert 0.05 < times_s.max() < 0.2


def test_pcd_with_wrong_padding(clouds) -> None:
    for cloud in clouds("sustech/*.pcd"):
        assert cloud.features == (*PLACE, "timestamp", "ring")
        check_scan(cloud)
        check_rings(cloud)
        check_times(cloud)


def test_feather_of_argoverse(clouds) -> None:
    for cloud in clouds("av2/[0-9]*.feather"):
        assert cloud.features == (*PLACE, "ring", "timestamp")
        check_scan(cloud)
        check_rings(cloud)
        check_times(cloud)


def test_key_frames_of_nuscenes(clouds) -> None:
    for cloud in clouds("nuscenes/*.pcd.bin"):
        assert cloud.features == (*PLACE, "ring")
        check_scan(cloud)
        check_rings(cloud)


def test_number_files_of_view_of_delft(clouds) -> None:
    for cloud in clouds("view_of_delft/velodyne/*.bin"):
        assert cloud.features == PLACE
        assert "guessed: its values show it" in cloud.note
        check_scan(cloud)
