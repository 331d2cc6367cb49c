"""Steps that select points: sensors by their bits, sweeps by age, beams by number."""

from __future__ import annotations

import numpy as np
import pytest
from easydict import EasyDict

from pcdet_distill.datasets.augmentor.thin_beams import RandomThinBeams
from pcdet_distill.datasets.processor import CloudColumns, DataProcessor
from pcdet_distill.datasets.synthetic.sensors.sensor_options import standard_sensor
from pcdet_distill.errors import ConfigError

RANGE = np.array([0, -10, -3, 40, 10, 1], dtype=np.float32)
COLUMNS = CloudColumns(
    ["x", "y", "z", "intensity", "sensor", "timestamp", "beam"], ["velodyne", "left", "right"]
)
SHUFFLE = {"NAME": "shuffle_points", "SHUFFLE_ENABLED": {"train": True, "test": False}}


def processor(*steps: dict, columns: CloudColumns = COLUMNS) -> DataProcessor:
    return DataProcessor([EasyDict(step) for step in steps], RANGE, True, 4, columns)


def cloud(sensor: float = 1.0, age_s: float = 0.0, beams: int = 1) -> np.ndarray:
    """(beams, 7) one point of each beam."""
    points = np.zeros((beams, 7), dtype=np.float32)
    points[:, 4] = sensor
    points[:, 5] = age_s
    points[:, 6] = np.arange(beams)
    return points


def test_sensors_are_bits() -> None:
    points = np.concatenate([cloud(1), cloud(2), cloud(4), cloud(5)])
    one = processor({"NAME": "select_sensor", "SENSORS": ["left"]})
    two = processor({"NAME": "select_sensor", "SENSORS": ["velodyne", "left"]})
    assert one.select(points)[:, 4].tolist() == [2]
    assert two.select(points)[:, 4].tolist() == [1, 2, 5]


def test_sweeps_are_ages() -> None:
    points = np.concatenate([cloud(age_s=age_s) for age_s in (0.0, 0.1, 0.2, 0.3)])
    last = processor({"NAME": "select_sweeps"})
    three = processor({"NAME": "select_sweeps", "MAX_AGE_S": 0.2})
    assert len(last.select(points)) == 1
    np.testing.assert_allclose(three.select(points)[:, 5], [0.0, 0.1, 0.2], atol=1e-6)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"KEEP_EVERY": 4}, [0, 4, 8, 12]),
        ({"KEEP_EVERY": 4, "OFFSET": 3}, [3, 7, 11, 15]),
        ({"KEEP_BEAMS": 4, "OF_BEAMS": 16}, [3, 7, 11, 15]),
        ({"KEEP_BEAMS": 3, "OF_BEAMS": 16}, [5, 10, 15]),
        ({"KEEP_BEAMS": 16, "OF_BEAMS": 16}, list(range(16))),
    ],
)
def test_beams_are_kept_at_even_steps(keys: dict[str, int], expected: list[int]) -> None:
    kept = processor({"NAME": "thin_beams", **keys}).select(cloud(beams=16))
    assert kept[:, 6].tolist() == expected


@pytest.mark.parametrize("kept", [1, 7, 16, 63])
def test_exactly_so_many_beams_are_kept(kept: int) -> None:
    step = processor({"NAME": "thin_beams", "KEEP_BEAMS": kept})
    assert len(step.select(cloud(beams=64))) == kept


def ring_points() -> np.ndarray:
    """(64, 4) one point of each beam of an HDL-64E, without a column that says so."""
    elevation = standard_sensor().elevations_rad
    points = [np.cos(elevation) * 20.0, np.zeros(64), np.sin(elevation) * 20.0, np.zeros(64)]
    return np.column_stack(points).astype(np.float32)


def test_without_a_column_the_elevation_tells_the_beam() -> None:
    step = processor(
        {"NAME": "thin_beams", "KEEP_EVERY": 4}, columns=CloudColumns(["x", "y", "z", "intensity"])
    )
    points = ring_points()
    np.testing.assert_array_equal(step.select(points), points[::4])


def test_selections_are_made_in_order_and_together() -> None:
    points = np.concatenate([cloud(1, 0.0, 8), cloud(2, 0.0, 8), cloud(1, 0.1, 8)])
    steps = processor(
        {"NAME": "select_sensor", "SENSORS": ["velodyne"]},
        {"NAME": "select_sweeps"},
        {"NAME": "thin_beams", "KEEP_EVERY": 2},
        SHUFFLE,
    )
    kept = steps.select(points)
    assert kept[:, 4:].tolist() == [[1, 0, beam] for beam in (0, 2, 4, 6)]
    assert [step.config["NAME"] for step in steps.steps] == ["shuffle_points"]


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([SHUFFLE, {"NAME": "select_sweeps"}], "select_sweeps must stand before all steps .* sh"),
        ([{"NAME": "select_sensor"}], "select_sensor.SENSORS is missing"),
        ([{"NAME": "select_sensor", "SENSORS": ["lift"]}], "'lift' is not in .*mean 'left'"),
        ([{"NAME": "select_sensor", "SENSOR": ["left"]}], "unknown key 'SENSOR'"),
        ([{"NAME": "select_sweeps", "MAX_AGE_S": -1}], "MAX_AGE_S: expected a number from 0"),
        ([{"NAME": "thin_beams"}], "thin_beams: expected either KEEP_EVERY or KEEP_BEAMS"),
        ([{"NAME": "thin_beams", "KEEP_EVERY": 4, "OFFSET": 4}], "OFFSET: 4 is not below"),
        ([{"NAME": "thin_beams", "KEEP_BEAMS": 80}], "KEEP_BEAMS: 80 is more than OF_BEAMS 64"),
    ],
)
def test_wrong_steps_are_one_sentence(steps: list[dict], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        processor(*steps)


def test_a_cloud_without_the_column_is_refused() -> None:
    plain = CloudColumns(["x", "y", "z", "intensity"], ["velodyne"])
    with pytest.raises(ConfigError, match="the points have no column 'timestamp'"):
        processor({"NAME": "select_sweeps"}, columns=plain)
    # One sensor needs no column to be selected.
    step = processor({"NAME": "select_sensor", "SENSORS": ["velodyne"]}, columns=plain)
    assert len(step.select(ring_points())) == 64


# The augmentation


def test_an_augmentation_thins_by_a_drawn_step_from_a_drawn_beam() -> None:
    augmentation = RandomThinBeams({"NAME": "thin_beams", "KEEP_EVERY": [2, 4]}, COLUMNS)
    found = set()
    for seed in range(60):
        item = {"points": cloud(beams=16)}
        augmentation(item, np.random.RandomState(seed))
        beams = item["points"][:, 6]
        found.add((int(beams[0]), int(beams[1] - beams[0])))
    assert found == {(0, 2), (1, 2), (0, 4), (1, 4), (2, 4), (3, 4)}
    with pytest.raises(ConfigError, match="thin_beams.KEEP_EVERY"):
        RandomThinBeams({"NAME": "thin_beams", "KEEP_EVERY": [0]}, COLUMNS)
