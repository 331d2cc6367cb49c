"""NumPy's files: plain and structured arrays, archives, and every wrong shape."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cloud_writers import scan
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from pcdet_distill.datasets.readers import read_cloud_file
from pcdet_distill.errors import DataError


def npy(path: Path, array: np.ndarray) -> Path:
    np.save(path, array)
    return path


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2", "<i4", "<u2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_table_of_any_type_is_read(tmp_path: Path, dtype: str, order: str) -> None:
    table = np.asarray(np.arange(40).reshape(8, 5), dtype=dtype, order=order)
    cloud = read_cloud_file(npy(tmp_path / "a.npy", table))
    assert cloud.features == ("x", "y", "z", "intensity", "column_4")
    assert cloud.points.dtype == np.float32
    np.testing.assert_array_equal(cloud.points, table)


def test_told_names_are_taken(tmp_path: Path) -> None:
    path = npy(tmp_path / "a.npy", scan(10))
    cloud = read_cloud_file(path, ["x", "y", "z", "elongation", "time"])
    assert cloud.features == ("x", "y", "z", "elongation", "timestamp")
    np.testing.assert_array_equal(cloud.points, scan(10))


def test_a_range_image_becomes_a_list(tmp_path: Path) -> None:
    cloud = read_cloud_file(npy(tmp_path / "a.npy", scan(12).reshape(3, 4, 5)))
    np.testing.assert_array_equal(cloud.points, scan(12))
    assert "its shape (3, 4, 5) is read as a list of points" in cloud.note


def test_a_structured_array_names_its_columns(tmp_path: Path) -> None:
    rows = np.zeros(6, [("t", "<f8"), ("z", "f4"), ("y", "f4"), ("x", "f4"), ("n", "i2", 2)])
    rows["x"], rows["y"], rows["z"] = scan(6)[:, :3].T
    rows["t"] = 0.01 * np.arange(6)
    rows["n"] = [[1, 2]] * 6
    cloud = read_cloud_file(npy(tmp_path / "a.npy", rows))
    assert cloud.features == ("x", "y", "z", "timestamp", "n_0", "n_1")
    np.testing.assert_array_equal(cloud.points[:, :3], scan(6)[:, :3])


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st_numpy.arrays(
        np.float32,
        st.tuples(st.integers(1, 20), st.integers(3, 8)),
        elements=st.floats(width=32, min_value=-999, max_value=999),
    )
)
def test_any_table_comes_back(tmp_path: Path, table: np.ndarray) -> None:
    told = read_cloud_file(npy(tmp_path / "any.npy", table), table.shape[1])
    np.testing.assert_array_equal(told.points, table)
    np.savez(tmp_path / "any.npz", table)
    np.testing.assert_array_equal(read_cloud_file(tmp_path / "any.npz").points, table)


def test_an_archive_with_one_array_of_points(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", cloud=scan(7)[:, :4], pose=np.eye(4), frame=3)
    cloud = read_cloud_file(tmp_path / "a.npz")
    assert cloud.features == ("x", "y", "z", "intensity")
    np.testing.assert_array_equal(cloud.points, scan(7)[:, :4])


def test_an_archive_of_four_points(tmp_path: Path) -> None:
    """Alone, or named so, an array with the shape of a pose holds points."""
    np.savez(tmp_path / "a.npz", scan(4)[:, :4])
    np.testing.assert_array_equal(read_cloud_file(tmp_path / "a.npz").points, scan(4)[:, :4])
    np.savez(tmp_path / "b.npz", points=scan(4)[:, :4], pose=np.eye(4))
    np.testing.assert_array_equal(read_cloud_file(tmp_path / "b.npz").points, scan(4)[:, :4])


def test_an_archive_of_places_and_further_columns(tmp_path: Path) -> None:
    points = scan(7)
    np.savez(tmp_path / "a.npz", xyz=points[:, :3], ring=points[:, 4], intensity=points[:, 3])
    cloud = read_cloud_file(tmp_path / "a.npz")
    assert cloud.features == ("x", "y", "z", "intensity", "ring")
    np.testing.assert_array_equal(cloud.points, points)


def test_an_archive_with_one_array_a_column(tmp_path: Path) -> None:
    points = scan(7)
    columns = dict(zip(("X", "Y", "Z", "Intensity"), points.T))
    np.savez(tmp_path / "a.npz", **columns, name="road")
    cloud = read_cloud_file(tmp_path / "a.npz")
    assert cloud.features == ("x", "y", "z", "intensity")
    np.testing.assert_array_equal(cloud.points, points[:, :4])


def test_an_intensity_beside_a_table_is_not_overwritten(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", points=scan(7)[:, :4], intensity=np.full(7, 0.5))
    cloud = read_cloud_file(tmp_path / "a.npz")
    assert cloud.features == ("x", "y", "z", "intensity", "column_3")
    np.testing.assert_array_equal(cloud.points[:, 3], 0.5)


@pytest.mark.parametrize(
    ("array", "columns", "words"),
    [
        (np.zeros((5, 2)), None, r"shape \(N, C\) with C from 3 to 64, found float64 \(5, 2\)"),
        (np.zeros(12), None, r"found float64 \(12,\)"),
        (np.zeros((4, 900)), None, r"found float64 \(4, 900\); transpose it"),
        (np.zeros((5, 5)), 4, r"shape \(N, 4\), found float64 \(5, 5\)"),
        (np.array([["a", "b", "c"]]), None, "expected numbers"),
        (np.zeros((4, 4), complex), None, "expected numbers"),
        (np.zeros((0, 4)), None, "holds no points"),
        (np.array([{"x": 1}], dtype=object), None, "not a readable .npy array"),
        (np.zeros(3, [("x", "f4"), ("y", "f4")]), None, "has no z; expected columns x, y, z"),
    ],
)
def test_a_wrong_array_is_told(tmp_path: Path, array, columns, words: str) -> None:
    path = tmp_path / "scan.npy"
    np.save(path, array, allow_pickle=True)
    with pytest.raises(DataError, match=words) as caught:
        read_cloud_file(path, columns)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_a_truncated_array_is_told(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"scan{suffix}"
    if suffix == ".npy":
        np.save(path, scan(100))
    else:
        np.savez_compressed(path, scan(100))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=f"scan{suffix}: not a readable {suffix} ") as caught:
        read_cloud_file(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"a": np.zeros((5, 4)), "b": np.zeros((5, 3))}, r"which array .* a \(5, 4\), b \(5, 3\)"),
        ({"pose": np.eye(4), "other": np.eye(4)}, "which array holds the points"),
        ({"stamp": np.zeros(3)}, r"which array holds the points.* are: stamp \(3,\)"),
        ({"x": np.zeros(4), "y": np.zeros(4), "z": np.zeros(5)}, "differ in length: x 4, y 4, z 5"),
    ],
)
def test_an_archive_without_a_clear_cloud_is_told(tmp_path: Path, arrays, words: str) -> None:
    np.savez(tmp_path / "scan.npz", **arrays)
    with pytest.raises(DataError, match=f"scan.npz: .*{words}"):
        read_cloud_file(tmp_path / "scan.npz")
