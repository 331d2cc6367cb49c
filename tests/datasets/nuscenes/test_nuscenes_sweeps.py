"""Frames of several sweeps: order, ages, the vehicle's own points, wrong files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pcdet_distill.datasets.nuscenes.sweeps import read_frame
from pcdet_distill.errors import DataError

SHIFT = np.eye(4)
SHIFT[:3, 3] = [10.0, 0.0, -1.0]


def sweep_of(number: int, matrix: np.ndarray | None = SHIFT) -> dict:
    return {"lidar_path": f"{number}.bin", "transform_matrix": matrix, "time_lag": 0.05 * number}


@pytest.fixture
def info(tmp_path: Path) -> dict:
    """A key frame and five sweeps; the intensity of a point is the number of its sweep."""
    for number in range(6):
        points = np.array([[5.0, 2.0, 0.5, number, 31.0], [0.5, -0.5, 0.0, number, 31.0]])
        points.astype(np.float32).tofile(tmp_path / f"{number}.bin")
    return {"lidar_path": "0.bin", "sweeps": [sweep_of(number) for number in range(1, 6)]}


def test_the_newest_sweeps_in_their_order(tmp_path: Path, info: dict) -> None:
    points = read_frame(tmp_path, info, 4)
    # The vehicle's own point stays in the key frame alone, as in OpenPCDet.
    assert points[:, 3].tolist() == [0, 0, 1, 2, 3]
    np.testing.assert_allclose(points[:, 4], [0, 0, 0.05, 0.1, 0.15], rtol=1e-6)
    np.testing.assert_allclose(points[0, :3], [5.0, 2.0, 0.5])
    np.testing.assert_allclose(points[2:, :3], 3 * [[15.0, 2.0, -0.5]])
    assert points.dtype == np.float32
    assert points.flags.c_contiguous


def test_one_sweep_is_the_key_frame(tmp_path: Path, info: dict) -> None:
    assert read_frame(tmp_path, info, 1)[:, 3].tolist() == [0, 0]


def test_drawn_sweeps(tmp_path: Path, info: dict) -> None:
    """Of more sweeps than needed a random choice, in random order, none twice."""
    chosen = set()
    for seed in range(20):
        points = read_frame(tmp_path, info, 4, np.random.RandomState(seed))
        numbers = points[2:, 3].astype(int).tolist()
        assert len(set(numbers)) == 3
        chosen.add(tuple(numbers))
    assert len(chosen) > 10
    assert {number for numbers in chosen for number in numbers} == {1, 2, 3, 4, 5}


def test_a_sweep_without_matrix_stays_where_it_is(tmp_path: Path, info: dict) -> None:
    info["sweeps"] = [sweep_of(1, None)]
    np.testing.assert_allclose(read_frame(tmp_path, info, 2)[2, :3], [5.0, 2.0, 0.5])


def test_the_own_points_of_the_vehicle_are_a_square(tmp_path: Path, info: dict) -> None:
    """Closer than 1 m in x and in y; the edge belongs to the scene."""
    places = [[0.9, 0.9], [-0.9, 0.9], [1.0, 0.0], [0.0, -1.0], [0.9, 1.1]]
    points = np.zeros((5, 5), dtype=np.float32)
    points[:, :2] = places
    points.tofile(tmp_path / "1.bin")
    kept = read_frame(tmp_path, info, 2)[2:, :2] - SHIFT[:2, 3]
    np.testing.assert_allclose(kept, places[2:], atol=1e-6)


def test_an_empty_sweep(tmp_path: Path, info: dict) -> None:
    (tmp_path / "1.bin").write_bytes(b"")
    assert len(read_frame(tmp_path, info, 2)) == 2


def test_too_few_sweeps(tmp_path: Path, info: dict) -> None:
    words = "holds 5 earlier sweeps, but DATA_CONFIG.MAX_SWEEPS asks for 10 sweeps"
    with pytest.raises(DataError, match=words):
        read_frame(tmp_path, info, 10)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "2.bin: this point file does not exist"),
        (b"1234567", "2.bin: 7 bytes are not a whole number of points of 5 float32"),
        (np.full(5, np.nan, np.float32).tobytes(), "2.bin: 1 of 1 points hold NaN or infinity"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, info: dict, content: bytes | None, words: str) -> None:
    path = tmp_path / "2.bin"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_frame(tmp_path, info, 3)
