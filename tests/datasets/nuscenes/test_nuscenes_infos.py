"""Infos against the made-up scenes: boxes sit on their points in every sweep, velocities fit."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from tiny_nuscenes import (
    MAX_SWEEPS,
    ONCE,
    RADAR_ONLY,
    SIZES,
    SWEEP_US,
    TRAFFIC,
    TRAIN_SCENES,
    TRUCK,
    VAL_SCENES,
    VERSION,
    Thing,
    TinyNuScenes,
)

from pcdet_distill.datasets.nuscenes.infos import InfoMaker
from pcdet_distill.datasets.nuscenes.labels import class_of_category
from pcdet_distill.datasets.nuscenes.sweeps import read_frame
from pcdet_distill.evaluation.nuscenes import Tables
from pcdet_distill.ops.points import points_in_boxes_mask

SWEEP_S = SWEEP_US * 1e-6


def infos_of(tiny: TinyNuScenes, split: str) -> list[dict]:
    file = tiny.root / f"nuscenes_infos_{MAX_SWEEPS}sweeps_{split}.pkl"
    return pickle.loads(file.read_bytes())


def info_of(tiny: TinyNuScenes, token: str) -> dict:
    infos = infos_of(tiny, "train") + infos_of(tiny, "val")
    return next(info for info in infos if info["token"] == token)


def test_samples_of_each_split_in_the_order_of_the_table(shared_nus: TinyNuScenes) -> None:
    train = [info["token"] for info in infos_of(shared_nus, "train")]
    assert train == [
        *(f"{TRAIN_SCENES[0]}-{number}" for number in range(3)),
        *(f"{TRAIN_SCENES[1]}-{number}" for number in range(2)),
    ]
    val = [info["token"] for info in infos_of(shared_nus, "val")]
    assert val == [f"{VAL_SCENES[0]}-{number}" for number in range(2)]


def test_boxes_hold_their_points_in_every_sweep(shared_nus: TinyNuScenes) -> None:
    """A point of an older sweep, moved on by the box's velocity, lies in the box.

    This needs right poses, sizes, headings, ages and velocities.
    """
    info = info_of(shared_nus, f"{TRAIN_SCENES[0]}-2")
    points = read_frame(shared_nus.root, info, MAX_SWEEPS)
    ages = np.unique(points[:, 4])
    np.testing.assert_allclose(ages, SWEEP_S * np.arange(MAX_SWEEPS), atol=1e-6)
    things = [*TRAFFIC, RADAR_ONLY]
    assert len(info["gt_boxes"]) == len(things)
    for box in info["gt_boxes"]:
        for age in ages:
            sweep = points[points[:, 4] == age].copy()
            sweep[:, :2] += box[7:9] * age
            inside = points_in_boxes_mask(sweep, box[None, :7])
            assert inside.sum() >= 20


def test_names_and_numbers_of_points(shared_nus: TinyNuScenes) -> None:
    """The car without any point is left out; the animal stays, under another name."""
    info = info_of(shared_nus, f"{TRAIN_SCENES[0]}-1")
    expected = ["car", "pedestrian", "barrier", "ignore", "car", "car"]
    assert info["gt_names"].tolist() == expected
    assert info["num_lidar_pts"].tolist() == [20, 20, 20, 20, 0, 20]
    assert info["num_radar_pts"].tolist() == [0, 0, 0, 0, 2, 0]
    sizes = [SIZES[thing.category] for thing in (*TRAFFIC, RADAR_ONLY, ONCE)]
    widths, lengths, heights = np.array(sizes).T
    found = info["gt_boxes"][:, 3:6]
    np.testing.assert_allclose(found, np.column_stack([lengths, widths, heights]))
    assert len(set(info["gt_boxes_token"])) == len(expected)


def test_velocities(shared_nus: TinyNuScenes) -> None:
    """Their lengths are those of the made-up objects; one label alone tells no velocity."""
    info = info_of(shared_nus, f"{TRAIN_SCENES[0]}-1")
    speeds = np.linalg.norm(info["gt_boxes_velocity"], axis=1)
    expected = [np.hypot(*thing.velocity) for thing in (*TRAFFIC, RADAR_ONLY)]
    # Times are counted in microseconds since 1970, and divided to seconds.
    np.testing.assert_allclose(speeds[:-1], expected, atol=1e-5)
    assert np.isnan(info["gt_boxes_velocity"][-1]).all()
    boxes_velocity = info["gt_boxes"][:, 7:9]
    np.testing.assert_array_equal(boxes_velocity, info["gt_boxes_velocity"][:, :2])


def test_labels_too_far_apart_tell_no_velocity(tiny_nus: TinyNuScenes) -> None:
    car = Thing("vehicle.car", (10.0, 0.0), (2.0, 0.0), samples=(0, 1))
    tiny_nus.scene("scene-0061", [car], num_samples=2)
    for sample in tiny_nus.tables["sample"][1:]:
        sample["timestamp"] += 1_400_000
    tiny_nus.write()
    maker = InfoMaker(Tables(tiny_nus.root, VERSION), MAX_SWEEPS)
    assert np.isnan(maker.info("scene-0061-0")["gt_boxes"][0, 7:]).all()


def test_sweeps_go_back_and_the_oldest_is_repeated(shared_nus: TinyNuScenes) -> None:
    """Two sweeps come before the first key frame, so one of three is a repetition."""
    sweeps = info_of(shared_nus, f"{TRAIN_SCENES[0]}-0")["sweeps"]
    names = [sweep["sample_data_token"].rpartition("frame")[2] for sweep in sweeps]
    assert names == ["1", "0", "0"]
    lags = [sweep["time_lag"] for sweep in sweeps]
    np.testing.assert_allclose(lags, [SWEEP_S, 2 * SWEEP_S, 2 * SWEEP_S], atol=1e-6)


def test_a_key_frame_without_sweeps_stands_in_for_them(shared_nus: TinyNuScenes) -> None:
    info = info_of(shared_nus, f"{TRAIN_SCENES[1]}-0")
    assert [sweep["lidar_path"] for sweep in info["sweeps"]] == 3 * [info["lidar_path"]]
    assert all(sweep["transform_matrix"] is None for sweep in info["sweeps"])
    assert all(sweep["time_lag"] == 0 for sweep in info["sweeps"])


def test_matrices_of_a_sweep_fit_together(shared_nus: TinyNuScenes) -> None:
    info = info_of(shared_nus, f"{VAL_SCENES[0]}-1")
    for sweep in info["sweeps"]:
        back = sweep["global_from_car"] @ sweep["car_from_current"]
        expected = info["ref_from_car"] @ info["car_from_global"] @ back
        np.testing.assert_allclose(sweep["transform_matrix"], expected, atol=1e-9)


def test_boxes_equal_those_of_the_devkit(shared_nus: TinyNuScenes) -> None:
    """An independent reader of the same tables."""
    nuscenes = pytest.importorskip("nuscenes.nuscenes")
    devkit = nuscenes.NuScenes(VERSION, str(shared_nus.root), verbose=False)
    info = info_of(shared_nus, f"{VAL_SCENES[0]}-1")
    sample = devkit.get("sample", info["token"])
    path, boxes, _ = devkit.get_sample_data(sample["data"]["LIDAR_TOP"])
    assert Path(path) == shared_nus.root / info["lidar_path"]
    assert [box.token for box in boxes] == info["gt_boxes_token"].tolist()
    np.testing.assert_allclose([box.center for box in boxes], info["gt_boxes"][:, :3], atol=1e-9)
    forward = [box.orientation.rotation_matrix[:, 0] for box in boxes]
    headings = np.arctan2(np.array(forward)[:, 1], np.array(forward)[:, 0])
    np.testing.assert_allclose(headings, info["gt_boxes"][:, 6], atol=1e-9)
    velocities = [devkit.box_velocity(box.token) for box in boxes]
    speeds = np.linalg.norm(velocities, axis=1)
    np.testing.assert_allclose(speeds, np.linalg.norm(info["gt_boxes_velocity"], axis=1))


def test_cameras(shared_nus: TinyNuScenes) -> None:
    maker = InfoMaker(Tables(shared_nus.root, VERSION), MAX_SWEEPS, with_cam=True)
    info = maker.info(f"{VAL_SCENES[0]}-0")
    camera = info["cams"]["CAM_FRONT"]
    assert camera["data_path"] == info["cam_front_path"]
    np.testing.assert_array_equal(camera["camera_intrinsics"], info["cam_intrinsic"])
    # Camera and LiDAR are at the same place at the same time here.
    np.testing.assert_allclose(camera["sensor2lidar_rotation"], np.eye(3), atol=1e-9)
    np.testing.assert_allclose(camera["sensor2lidar_translation"], np.zeros(3), atol=1e-9)


def test_a_version_without_labels(shared_nus: TinyNuScenes) -> None:
    maker = InfoMaker(Tables(shared_nus.root, VERSION), MAX_SWEEPS, labelled=False)
    assert "gt_boxes" not in maker.info(f"{VAL_SCENES[0]}-0")


@pytest.mark.parametrize(
    ("category", "name"),
    [
        ("vehicle.bus.bendy", "bus"),
        ("vehicle.construction", "construction_vehicle"),
        ("human.pedestrian.police_officer", "pedestrian"),
        ("human.pedestrian.stroller", "ignore"),
        ("static_object.bicycle_rack", "ignore"),
        ("vehicle.forklift", "vehicle.forklift"),
    ],
)
def test_classes_of_categories(category: str, name: str) -> None:
    assert class_of_category(category) == name


def test_the_truck_is_where_it_was_put(shared_nus: TinyNuScenes) -> None:
    """The vehicle starts at the origin of the scene and looks along x; the LiDAR to its right."""
    info = info_of(shared_nus, f"{TRAIN_SCENES[1]}-0")
    truck = info["gt_boxes"][info["gt_names"].tolist().index("truck")]
    ahead, left = TRUCK.place
    expected = [-left, ahead - 0.9, SIZES["vehicle.truck"][2] / 2 - 1.8]
    np.testing.assert_allclose(truck[:3], expected, atol=1e-9)
