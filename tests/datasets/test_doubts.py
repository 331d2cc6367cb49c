"""Data that no reader refuses: each lie is named with its remedy, and healthy data with nothing."""

from __future__ import annotations

import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pcdet_distill.config import load_config
from pcdet_distill.datasets import DatasetTemplate, build_dataset
from pcdet_distill.datasets.cloud_sizes import sizes_file
from pcdet_distill.datasets.doubts import Doubt, find_doubts
from pcdet_distill.datasets.facts import gather_facts
from pcdet_distill.datasets.kitti.kitti_infos import create_kitti_infos
from pcdet_distill.datasets.synthetic import create_synthetic_kitti

YAML = "cfgs/synthetic/pointpillar_teacher.yaml"
TRAIN_INFOS = "kitti_infos_train.pkl"


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated KITTI folder of twelve training frames."""
    folder = tmp_path_factory.mktemp("doubts") / "kitti"
    create_synthetic_kitti(str(folder), 14, 7, val_frames=2, workers=1)
    create_kitti_infos(folder, show_progress=False)
    return folder


@pytest.fixture
def folder(healthy: Path, tmp_path: Path) -> Path:
    """A copy that may be spoiled."""
    return Path(shutil.copytree(healthy, tmp_path / "kitti"))


def dataset_of(folder: Path, **changes: object) -> DatasetTemplate:
    cfg = load_config(YAML)
    data_config = cfg.DATA_CONFIG
    data_config.update(DATA_PATH=str(folder), **changes)
    data_config.DATA_AUGMENTOR.AUG_CONFIG_LIST = []
    return build_dataset(data_config, cfg.CLASS_NAMES, training=True)


def doubts_of(folder: Path, **changes: object) -> list[Doubt]:
    dataset = dataset_of(folder, **changes)
    return find_doubts(gather_facts(dataset, 200, limit_s=60), dataset)


def clouds(folder: Path) -> list[Path]:
    """The point files of the training split."""
    infos = pickle.loads((folder / TRAIN_INFOS).read_bytes())
    names = [info["point_cloud"]["lidar_idx"] for info in infos]
    return [folder / "training" / "velodyne" / f"{name}.bin" for name in names]


def change_points(file: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    points = np.fromfile(file, dtype=np.float32).reshape(-1, 4)
    change(points).astype(np.float32).tofile(file)


def change_all_points(folder: Path, column: int, change: Callable) -> None:
    """Change a column in every cloud."""
    for file in clouds(folder):
        points = np.fromfile(file, dtype=np.float32).reshape(-1, 4)
        points[:, column] = change(points[:, column])
        points.tofile(file)


def change_infos(folder: Path, change: Callable[[dict], None]) -> None:
    infos = pickle.loads((folder / TRAIN_INFOS).read_bytes())
    for info in infos:
        change(info)
    (folder / TRAIN_INFOS).write_bytes(pickle.dumps(infos))


def only(doubts: list[Doubt], name: str) -> Doubt:
    """The one doubt there is, which has this name."""
    assert [doubt.name for doubt in doubts] == [name]
    assert doubts[0].remedy
    return doubts[0]


def test_healthy_data_gives_no_doubt(folder: Path) -> None:
    assert doubts_of(folder) == []


def test_infos_of_openpcdet_tell_no_sizes(folder: Path) -> None:
    sizes_file(folder / TRAIN_INFOS).unlink()
    change_points(clouds(folder)[3], lambda points: points[: len(points) // 2])
    assert doubts_of(folder) == []


def test_infos_of_an_earlier_version_tell_the_number_of_points(folder: Path) -> None:
    counts = {file.stem: file.stat().st_size // 16 for file in clouds(folder)}

    def add(info: dict) -> None:
        info["point_cloud"]["num_points"] = counts[info["point_cloud"]["lidar_idx"]]

    change_infos(folder, add)
    change_points(clouds(folder)[3], lambda points: points[: len(points) // 2])
    assert only(doubts_of(folder), "file size")


def test_a_cloud_cut_on_the_boundary_of_a_point(folder: Path) -> None:
    file = clouds(folder)[3]
    before = file.stat().st_size
    change_points(file, lambda points: points[: len(points) // 2])
    doubt = only(doubts_of(folder), "file size")
    assert doubt.what.startswith(f"1 of 12 frames ({file.stem}) have point files of another size")
    assert f"{file.name} has {file.stat().st_size} bytes and not {before}" in doubt.what


def test_a_cloud_of_few_points_without_a_size_in_its_info(folder: Path) -> None:
    sizes_file(folder / TRAIN_INFOS).unlink()
    file = clouds(folder)[2]
    change_points(file, lambda points: points[:60])
    doubts = doubts_of(folder)
    assert "small clouds" in [doubt.name for doubt in doubts]
    assert f"1 of 12 frames ({file.stem}) have less than a tenth" in doubts[0].what


@pytest.mark.parametrize(("count", "words"), [(1, "1 of 12 frames"), (12, "12 of 12 frames")])
def test_empty_clouds(folder: Path, count: int, words: str) -> None:
    for file in clouds(folder)[:count]:
        file.write_bytes(b"")
    named = {doubt.name: doubt for doubt in doubts_of(folder)}
    assert set(named) == {"file size", "empty clouds"}
    assert named["empty clouds"].what.startswith(words)
    assert "have no points" in named["empty clouds"].what


@pytest.mark.parametrize(
    ("scale", "words"),
    [
        (255, "up to 2.*, outside 0 to 1"),
        (65535, "outside 0 to 255"),
        (-1, "intensities from -.* outside 0 to 255"),
    ],
)
def test_intensities_of_another_scale(folder: Path, scale: int, words: str) -> None:
    change_all_points(folder, 3, lambda values: values * scale)
    doubt = only(doubts_of(folder), "intensity")
    assert doubt.what.startswith("12 of 12 frames")
    assert re.search(words, doubt.what)


def test_one_huge_intensity(folder: Path) -> None:
    def spoil(points: np.ndarray) -> np.ndarray:
        points[5, 3] = 1e38
        return points

    file = clouds(folder)[7]
    change_points(file, spoil)
    doubt = only(doubts_of(folder), "intensity")
    assert f"1 of 12 frames ({file.stem}) have intensities from" in doubt.what
    assert "to 1e+38" in doubt.what


def test_intensities_of_two_scales_where_the_data_set_has_none_of_its_own(folder: Path) -> None:
    dataset = dataset_of(folder)
    dataset.dataset_cfg["DATASET"] = "OwnDataset"
    facts = gather_facts(dataset, 200, limit_s=60)
    assert find_doubts(facts, dataset) == []
    for file in clouds(folder)[:3]:
        change_points(file, lambda points: points * [1, 1, 1, 255])
    doubt = only(find_doubts(gather_facts(dataset, 200, limit_s=60), dataset), "intensity")
    assert doubt.what.startswith("3 of 12 frames")
    assert "another scale than the rest" in doubt.what


def test_points_that_lie_behind_the_sensor(folder: Path) -> None:
    change_all_points(folder, 0, np.negative)
    doubts = {doubt.name: doubt for doubt in doubts_of(folder)}
    assert "12 of 12 frames" in doubts["points"].what
    assert "they lie behind the sensor" in doubts["points"].what


def test_boxes_where_no_points_are(folder: Path) -> None:
    change_all_points(folder, 1, lambda y: y + 15)
    doubt = only(doubts_of(folder), "boxes")
    assert "boxes within 40 m hold no point above the ground" in doubt.what


@pytest.mark.parametrize(("shift_m", "where"), [(1.73, "below"), (-1.0, "above")])
def test_heights_of_another_frame(folder: Path, shift_m: float, where: str) -> None:
    """Points whose z begins at the ground, while that of the boxes begins at the sensor."""
    change_all_points(folder, 2, lambda z: z + shift_m)
    changes = {"POINT_CLOUD_RANGE": [0, -39.68, -6, 69.12, 39.68, 6]}
    (heights,) = [doubt for doubt in doubts_of(folder, **changes) if doubt.name == "heights"]
    assert f"m {where} the ground beside them in the median" in heights.what
    assert f"(add {shift_m:.1f}" in heights.remedy


def test_images_of_one_pixel(folder: Path) -> None:
    def shrink(info: dict) -> None:
        info["image"]["image_shape"] = np.array([1, 1], dtype=np.int32)

    change_infos(folder, shrink)
    doubt = only(doubts_of(folder), "images")
    assert doubt.what.startswith("12 of 12 frames")
    assert "an image of 1 x 1 pixels" in doubt.what


def test_frames_with_nan_are_counted(folder: Path) -> None:
    for file in clouds(folder)[:2]:
        change_points(file, lambda points: points * [np.nan, 1, 1, 1])
    doubt = only(doubts_of(folder), "unreadable")
    assert doubt.what.startswith("2 of 12 frames")
    assert "hold NaN or infinity" in doubt.what
