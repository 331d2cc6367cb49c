"""The keys of nuScenes in DATA_CONFIG: OpenPCDet's yaml loads, wrong values are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from pcdet_distill.config import NuScenesOptions, load_config
from pcdet_distill.config.check import correct_name
from pcdet_distill.errors import ConfigError


def test_the_base_file_has_openpcdets_values(repo: Path) -> None:
    config = load_config(repo / "cfgs" / "dataset_configs" / "nuscenes_dataset.yaml")
    assert NuScenesOptions.from_config(config) == NuScenesOptions(
        version="v1.0-trainval",
        max_sweeps=10,
        pred_velocity=True,
        set_nan_velocity_to_zeros=True,
        filter_min_points_in_gt=1,
        balanced_resampling=True,
    )


def test_other_keys_of_the_block_are_left_alone() -> None:
    options = NuScenesOptions.from_config({"DATASET": "NuScenesDataset", "MAX_SWEEPS": 3})
    assert options == NuScenesOptions(max_sweeps=3)


def test_false_stands_for_no_filter() -> None:
    options = NuScenesOptions.from_config({"FILTER_MIN_POINTS_IN_GT": False})
    assert options.filter_min_points_in_gt == 0


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"MAX_SWEEPS": 0}, "MAX_SWEEPS: expected a whole number from 1 up, found 0"),
        ({"PRED_VELOCITY": "yes"}, "PRED_VELOCITY: expected true or false"),
        ({"VERSION": ""}, "VERSION: expected the name of a folder of tables"),
        ({"VERSION": "data/v1.0-mini"}, "found 'data/v1.0-mini'"),
        ({"COMMON_CLOUD": {"NAME": "two"}}, "COMMON_CLOUD joins the sensors"),
        ({"CAMERA_CONFIG": {"USE_CAMERA": True}}, "USE_CAMERA is true, but detectors of LiDAR"),
    ],
)
def test_wrong_values_are_named(block: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        NuScenesOptions.from_config(block)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("KitiDataset", "KittiDataset"),
        ("NuSceneDataset", "NuScenesDataset"),
        ("nuscenesdataset", "NuScenesDataset"),
        ("NuScenesDatset", "NuScenesDataset"),
        ("SceneDataset", None),
        ("ScenesDataset", None),
        ("CityDataset", None),
        ("Dataset", None),
    ],
)
def test_names_of_own_data_sets_are_no_typos(name: str, meant: str | None) -> None:
    assert correct_name(name, ("KittiDataset", "CustomDataset", "NuScenesDataset")) == meant
