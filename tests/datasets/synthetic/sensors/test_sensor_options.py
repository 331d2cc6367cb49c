"""Sensors as yaml files: what they hold, and what is refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pcdet_distill.datasets.synthetic.sensors.sensor_options import (
    Sensor,
    make_sensor,
    read_sensor,
    read_sensors,
    standard_sensor,
)
from pcdet_distill.errors import ConfigError

BEAMS = {"BEAMS": [{"FROM_DEG": 2, "TO_DEG": -4, "COUNT": 4}]}


def sensor(**keys: object) -> Sensor:
    return make_sensor("mine", {**BEAMS, **keys}, "mine.yaml")


def test_the_standard_sensor_is_kittis_exactly() -> None:
    upper = 2.0 - np.arange(32) / 3.0
    lower = -8.83 - np.arange(32) / 2.0
    expected = np.deg2rad(np.concatenate([upper, lower]))
    np.testing.assert_array_equal(standard_sensor().elevations_rad, expected)
    assert standard_sensor().azimuth_step_deg == 0.18


@pytest.mark.parametrize(
    ("name", "beams", "highest", "lowest", "step"),
    [
        ("hdl64e", 64, 2.0, -24.33, 0.18),
        ("vlp16", 16, 15.0, -15.0, 360 * 55.296e-6 * 10),
        ("lidar32", 32, 10.67, -30.67, 0.332),
        ("solid_state", 126, 12.5, -12.5, 0.2),
    ],
)
def test_the_four_sensors(
    name: str, beams: int, highest: float, lowest: float, step: float
) -> None:
    found = read_sensor(name)
    assert found.name == name
    assert len(found.elevations_deg) == beams
    assert (found.elevations_deg[0], found.elevations_deg[-1]) == (highest, lowest)
    assert found.azimuth_step_deg == pytest.approx(step, rel=1e-4)


def test_beams_are_a_list_or_blocks_and_fall() -> None:
    blocks = sensor(
        BEAMS=[
            {"FROM_DEG": -3, "TO_DEG": -5, "COUNT": 3},
            {"FROM_DEG": 2, "TO_DEG": 1, "COUNT": 2},
        ]
    )
    listed = sensor(BEAMS=None, ELEVATIONS_DEG=[-3, -4, -5, 1, 2])
    assert blocks.elevations_deg == listed.elevations_deg == (2, 1, -3, -4, -5)


def test_the_step_follows_from_rate_and_firings() -> None:
    assert sensor(RATE_HZ=20, FIRINGS_PER_S=36000).azimuth_step_deg == pytest.approx(0.2)
    assert sensor().azimuth_step_deg == 0.18


def test_the_fingerprint_changes_with_every_key() -> None:
    changes = [
        {},
        {"RATE_HZ": 20},
        {"MOUNT": {"Z_M": 0.1}},
        {"DROPOUT": 0.1},
        {"BEAMS": [{"FROM_DEG": 2, "TO_DEG": -4, "COUNT": 5}]},
        {"AZIMUTH_STEP_DEG": 0.2},
    ]
    found = {sensor(**change).fingerprint for change in changes}
    assert len(found) == len(changes)
    assert sensor().fingerprint == sensor().fingerprint
    assert sensor().fingerprint.startswith("mine:")


def test_a_yaml_file_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "roof.yaml"
    file.write_text("ELEVATIONS_DEG: [1, -1]\nMOUNT: {Z_M: 0.5}\n")
    found = read_sensor(file)
    assert found.name == "roof"
    assert found.options.mount.z_m == 0.5


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"BEAMS": None}, "expected beams, as either ELEVATIONS_DEG or BEAMS"),
        ({"ELEVATIONS_DEG": [1]}, "expected beams, as either ELEVATIONS_DEG or BEAMS"),
        ({"BEAMS": [{"FROM_DEG": 2, "COUNT": 4}]}, r"BEAMS\[0\]: expected FROM_DEG, TO_DEG"),
        ({"BEAMS": [{"FROM": 2}]}, r"BEAMS\[0\]: unknown key 'FROM'; did you mean 'FROM_DEG'"),
        ({"BEAMS": None, "ELEVATIONS_DEG": [1, 1]}, "two beams have the same elevation"),
        ({"BEAMS": None, "ELEVATIONS_DEG": [1, 100]}, r"ELEVATIONS_DEG\[1\]: expected a number"),
        ({"RATE": 5}, "unknown key 'RATE'; did you mean 'RATE_HZ'"),
        ({"RATE_HZ": 0}, "RATE_HZ: expected a number above 0"),
        ({"MAX_RANGE_M": 0.5}, "MAX_RANGE_M: expected a number from 5 up"),
        ({"DROPOUT": 1.5}, "DROPOUT: expected a number from 0 to 1"),
        ({"MOUNT": {"Z_M": -2}}, "MOUNT.Z_M: expected a number from -1.5 to 5"),
        ({"AZIMUTH_STEP_DEG": 0.2, "FIRINGS_PER_S": 9}, "AZIMUTH_STEP_DEG or FIRINGS_PER_S"),
        ({"AZIMUTH_FROM_DEG": 20, "AZIMUTH_TO_DEG": 10}, "so the sensor sees nothing"),
        ({"GAIN_RANGES_M": [0, 10], "GAIN_FACTORS": [1]}, "one for each of the 1 GAIN_FACTORS"),
        ({"GAIN_RANGES_M": [10, 0], "GAIN_FACTORS": [1, 1]}, "expected rising ranges"),
    ],
)
def test_wrong_keys_are_one_sentence(keys: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        sensor(**keys)
    assert str(error.value).startswith("mine.yaml")


def test_an_unknown_sensor_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="no sensor 'vlp61'; did you mean 'vlp16'"):
        read_sensor("vlp61")
    with pytest.raises(ConfigError, match="vlp16 is given twice"):
        read_sensors(["vlp16", "vlp16"])
