"""The number of columns is found from the values alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cloud_writers import scan

from pcdet_distill.datasets.readers import read_cloud_file
from pcdet_distill.datasets.readers.column_count import contradicted_by, guess_columns
from pcdet_distill.errors import DataError


def wide_scan(num_points: int, seed: int = 0) -> np.ndarray:
    """(N, 8): a scan with time, elongation and a column of zeros, in random order."""
    random = np.random.default_rng(seed)
    further = [
        np.linspace(0, 0.1, num_points),
        random.exponential(0.2, num_points),
        np.zeros(num_points),
    ]
    return np.column_stack([scan(num_points, seed), *further]).astype(np.float32)


@pytest.mark.parametrize("count", [3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("num_points", [240, 3360, 20160])
def test_the_right_number_is_found(count: int, shuffled: bool, num_points: int) -> None:
    """3360 rows divide by every number from 3 to 8, so the size tells nothing."""
    points = wide_scan(num_points)[:, :count]
    if shuffled:
        points = np.random.default_rng(1).permutation(points)
    guess = guess_columns(np.ascontiguousarray(points).ravel())
    assert guess is not None
    assert (guess.count, guess.is_clear) == (count, True)


@pytest.mark.parametrize("count", [3, 4, 5, 6, 7, 8])
def test_only_the_right_number_and_its_multiples_agree(count: int) -> None:
    values = np.ascontiguousarray(wide_scan(3360)[:, :count]).ravel()
    for told in range(3, 13):
        expected = None if told % count == 0 else count
        assert contradicted_by(values, told) == expected


def test_numbers_without_any_order_get_the_usual_number() -> None:
    values = np.random.default_rng(0).random(6000).astype(np.float32)
    guess = guess_columns(values)
    assert guess is not None
    assert (guess.count, guess.is_clear) == (4, False)
    assert contradicted_by(values, 5) is None


def test_intensities_that_are_all_zero_do_not_mislead() -> None:
    points = scan(3360)[:, :4]
    points[:, 3] = 0
    assert guess_columns(points.ravel()).count == 4


def test_few_values_are_not_judged() -> None:
    values = scan(20)[:, :4].ravel()
    assert guess_columns(values).count == 4
    assert not guess_columns(values).is_clear
    assert contradicted_by(values, 5) is None


def test_a_prime_number_of_values_fits_nothing() -> None:
    assert guess_columns(np.ones(101, np.float32)) is None


def write(path: Path, points: np.ndarray) -> Path:
    points.tofile(path)
    return path


def test_a_guess_is_shown(tmp_path: Path) -> None:
    points = scan(3360)
    cloud = read_cloud_file(write(tmp_path / "a.bin", points))
    np.testing.assert_array_equal(cloud.points, points)
    assert cloud.features == ("x", "y", "z", "intensity", "column_4")
    assert "read as 5 columns of float32 (guessed: its values show it)" in cloud.note
    assert "column_4 (whole numbers 0..31, like rings)" in cloud.note


def test_told_columns_are_taken(tmp_path: Path) -> None:
    points = scan(3360)
    names = ("x", "y", "z", "reflectivity", "channel")
    cloud = read_cloud_file(write(tmp_path / "a.bin", points), names)
    assert cloud.features == ("x", "y", "z", "intensity", "ring")
    assert cloud.note == ""
    np.testing.assert_array_equal(cloud.points, points)
    swapped = read_cloud_file(tmp_path / "a.bin", ("intensity", "y", "z", "x", "ring"))
    np.testing.assert_array_equal(swapped.points, points[:, [3, 1, 2, 0, 4]])


def test_five_columns_are_not_read_as_four(tmp_path: Path) -> None:
    path = write(tmp_path / "a.bin", scan(3360))
    with pytest.raises(DataError, match=r"a.bin: 4 columns are asked for, .* every 5 numbers"):
        read_cloud_file(path, 4)


@pytest.mark.parametrize("columns", [None, 5])
def test_the_suffix_of_nuscenes_names_the_columns(tmp_path: Path, columns: int | None) -> None:
    points = scan(40)
    cloud = read_cloud_file(write(tmp_path / "n015__LIDAR_TOP__1532.pcd.bin", points), columns)
    assert cloud.features == ("x", "y", "z", "intensity", "ring")
    assert cloud.note == ""
    np.testing.assert_array_equal(cloud.points, points)


def test_float64_is_noticed(tmp_path: Path) -> None:
    points = scan(3360)[:, :4].astype(np.float64) + 1e-9
    cloud = read_cloud_file(write(tmp_path / "a.bin", points))
    assert "read as 4 columns of float64" in cloud.note
    np.testing.assert_allclose(cloud.points, points, rtol=1e-6)
    told = read_cloud_file(tmp_path / "a.bin", 4)
    assert "read as float64" in told.note


@pytest.mark.parametrize(
    ("content", "columns", "words"),
    [
        (scan(3360)[:, :4].tobytes()[:-4], None, "it seems to have 4 columns, .* truncated"),
        (scan(3360)[:, :4].tobytes()[:-4], 4, "4 columns are asked for, but 53756 bytes"),
        (scan(3360)[:, :4].tobytes()[:-2], None, "not a whole number of float32"),
        (scan(5)[:, :4].tobytes()[:4], None, "1 numbers are not whole points"),
        (b"", None, "is empty"),
        (b"# .PCD v0.7\nVERSION 0.7\nFIELDS x y z\n", None, "the content of a .pcd file"),
        (b"ply\nformat ascii 1.0\nelement vertex 0\n", None, "the content of a .ply file"),
        (b"1.0 2.0 3.0 0.5\n" * 20, None, "holds text data, expected plain float32 numbers"),
        (b"\x93NUMPY\1\0" + b"\0" * 100, None, "name it [*].npy"),
        (b"version https://git-lfs.github.com/spec/v1\n", None, "git lfs pull"),
        (np.random.default_rng(0).bytes(8000), None, "no float32 coordinates"),
        (scan(3360).tobytes(), 2, "2 columns are asked for; expected x, y, z"),
        (scan(3360).tobytes(), ("a", "b", "c", "d", "e"), "has no x, y, z"),
    ],
)
def test_damage_of_a_number_file_is_told(tmp_path: Path, content, columns, words: str) -> None:
    path = tmp_path / "scan.bin"
    path.write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        read_cloud_file(path, columns)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_an_unknown_suffix_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a.bin: this point file does not exist"):
        read_cloud_file(tmp_path / "a.bin")
    with pytest.raises(DataError, match=r"no reader for '.pdc'; did you mean '.pcd'"):
        read_cloud_file(tmp_path / "a.pdc")
