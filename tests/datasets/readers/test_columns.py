"""Names, order, world coordinates, times and intensities of a cloud, whatever its format."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from pcdet_distill.datasets.readers import PointCloud, names
from pcdet_distill.datasets.readers.columns import cloud_of_columns
from pcdet_distill.datasets.readers.names import feature_names
from pcdet_distill.errors import DataError

PLACE = {"x": np.array([1.0, 2.0]), "y": np.array([3.0, 4.0]), "z": np.array([5.0, 6.0])}


def cloud_with(**columns) -> PointCloud:
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    return cloud_of_columns({**PLACE, **arrays}, "scan")


def column(cloud: PointCloud, name: str) -> np.ndarray:
    return cloud.points[:, cloud.features.index(name)]


@pytest.mark.parametrize(
    ("in_file", "ours"),
    [
        ("i", "intensity"),
        ("Intensity", "intensity"),
        ("reflectivity", "intensity"),
        ("remission", "intensity"),
        ("scalar_Intensity", "intensity"),
        ("ring", "ring"),
        ("channel", "ring"),
        ("laser_number", "ring"),
        ("line", "ring"),
        ("t", "timestamp"),
        ("time", "timestamp"),
        ("Time Stamp", "timestamp"),
        ("offset_ns", "timestamp"),
        ("elongation", "elongation"),
    ],
)
def test_every_maker_has_its_names(in_file: str, ours: str) -> None:
    assert feature_names(["X", "y", "Z", in_file]) == ["x", "y", "z", ours]


def test_no_two_columns_have_one_name() -> None:
    assert feature_names(["x", "X", "a", "A", "a"]) == ["x", "x_2", "a", "a_2", "a_3"]
    assert feature_names(["i", "intensity"]) == ["i", "intensity"]


def test_the_examples_of_names_are_right() -> None:
    assert doctest.testmod(names).failed == 0


def test_the_order_is_place_then_intensity_then_the_file() -> None:
    columns = {"ring": np.array([7, 8]), "range": np.array([9, 9]), "i": np.array([0.1, 0.2])}
    cloud = cloud_of_columns({**columns, **dict(reversed(PLACE.items()))}, "scan")
    assert cloud.features == ("x", "y", "z", "intensity", "ring", "range")
    expected = np.array([[1, 3, 5, 0.1, 7, 9], [2, 4, 6, 0.2, 8, 9]], np.float32)
    np.testing.assert_array_equal(cloud.points, expected)


def test_missing_coordinates_are_told_with_what_there_is() -> None:
    with pytest.raises(DataError, match="^scan: has no z; expected .*, found x, y, depth$"):
        cloud_of_columns({"x": PLACE["x"], "y": PLACE["y"], "depth": PLACE["z"]}, "scan")
    with pytest.raises(DataError, match="has no x, y, z; .* found none"):
        cloud_of_columns({}, "scan")


def test_world_coordinates_keep_their_millimetres() -> None:
    northing = 5_411_932.0 + np.array([0.001, 0.005, np.nan])
    cloud = cloud_of_columns(
        {"x": np.array([0.5, 1.5, 2.5]), "y": northing, "z": np.zeros(3)}, "scan"
    )
    assert cloud.offset == (0.0, 5_412_000.0, 0.0)
    back = cloud.points[:, 1].astype(np.float64) + cloud.offset[1]
    np.testing.assert_allclose(back[:2], northing[:2], atol=1e-5)
    assert cloud.num_bad == 1
    assert "(0, 5412000, 0) m is subtracted" in cloud.note


def test_world_coordinates_already_rounded_are_told() -> None:
    columns = {name: values.astype(np.float32) for name, values in PLACE.items()}
    columns["y"] = columns["y"] + np.float32(5_411_932)
    cloud = cloud_of_columns(columns, "scan")
    assert cloud.offset == (0.0, 0.0, 0.0)
    assert "y reaches 5,411,936 m, where float32 has steps of 0.5 m" in cloud.note


def test_coordinates_of_a_sensor_are_not_moved() -> None:
    cloud = cloud_of_columns({**PLACE, "x": np.array([-250.0, 9000.0])}, "scan")
    assert cloud.offset == (0.0, 0.0, 0.0)
    assert cloud.note == ""


@pytest.mark.parametrize(
    ("name", "values", "seconds", "words"),
    [
        ("offset_ns", np.array([0, 99_000_000], np.int32), [0, 0.099], "from nanoseconds"),
        ("t", np.array([7, 99_000_000], np.uint32), [7e-9, 0.099], "from nanoseconds"),
        ("time_us", np.array([0, 99_000], np.uint32), [0, 0.099], "from microseconds"),
        ("time", np.array([-0.05, 0.05], np.float32), [-0.05, 0.05], ""),
        ("timestamp", 1.7e9 + np.array([0.25, 0.5]), [0, 0.25], "counts from the earliest point"),
        (
            "timestamp",
            np.uint64(1_700_000_000_000_000_000) + np.array([125, 1_000_000], np.uint64),
            [0, 0.000999875],
            "from nanoseconds to seconds and counts from the earliest point",
        ),
        (
            "timestamp",
            np.array([1_700_000_000_000_100, 1_700_000_000_000_000]),
            [1e-4, 0],
            "from microseconds",
        ),
        ("timestamp", np.array([500.0, 500.25]), [0, 0.25], "earliest point, at 500.000000 s"),
        ("timestamp", np.array([0, 99_000], np.uint32), [0, 99_000], "its unit is not seconds"),
    ],
)
def test_times_are_seconds_that_float32_can_hold(name, values, seconds, words: str) -> None:
    cloud = cloud_with(**{name: values})
    np.testing.assert_allclose(column(cloud, "timestamp"), seconds, rtol=1e-5, atol=1e-9)
    assert words in cloud.note
    assert bool(words) == bool(cloud.note)


@pytest.mark.parametrize(
    ("values", "scale", "words"),
    [
        ([0.0, 1.0], 1.0, ""),
        ([0.0, 1.5], 255.0, "a scale of 0..255 (highest 1.5)"),
        ([3, 255], 255.0, "a scale of 0..255 (highest 255)"),
        ([3, 256], 65535.0, "a scale of 0..65535 (highest 256)"),
        ([np.nan, 0.5], 1.0, ""),
        ([0.5] * 199 + [7.0], 1.0, ""),
    ],
)
def test_the_scale_of_intensities_is_told(values, scale: float, words: str) -> None:
    place = {name: np.arange(1, len(values) + 1) for name in "xyz"}
    cloud = cloud_of_columns({**place, "reflectance": np.array(values)}, "scan")
    assert cloud.intensity_scale == scale
    assert cloud.note.endswith(words)
    assert bool(cloud.note) == bool(words)
    np.testing.assert_array_equal(column(cloud, "intensity"), np.float32(values))


def test_a_cloud_without_intensity_has_no_scale() -> None:
    assert cloud_with(ring=[1, 2]).intensity_scale is None


def test_a_column_without_numbers_is_left_out() -> None:
    cloud = cloud_with(junk=[1e300, np.nan], ring=[1, 2])
    assert cloud.features == ("x", "y", "z", "ring")
    assert cloud.num_bad == 0
    assert "junk is left out" in cloud.note


def test_a_column_of_points_without_place_is_kept() -> None:
    """As in an organised cloud with few returns."""
    nothing = [np.nan] * 4
    columns = {name: np.array([1.0, *nothing]) for name in ("x", "y", "z", "intensity")}
    cloud = cloud_of_columns(columns, "scan")
    assert cloud.features == ("x", "y", "z", "intensity")
    assert cloud.num_bad == 4


def test_rays_without_return_are_told() -> None:
    zeros = {name: np.array([0.0, 0.0, value[0]]) for name, value in PLACE.items()}
    assert "2 of 3 points lie at (0, 0, 0)" in cloud_of_columns(zeros, "scan").note


def test_columns_are_selected_by_name() -> None:
    cloud = cloud_with(intensity=[0.5, 0.6], ring=[7, 8])
    np.testing.assert_array_equal(cloud.select(("x", "ring"), "scan"), [[1, 7], [2, 8]])
    assert cloud.select(cloud.features, "scan") is cloud.points
    with pytest.raises(DataError, match="^scan: has no column 'time'; .* x, y, z, intensity, ring"):
        cloud.select(("x", "time"), "scan")
