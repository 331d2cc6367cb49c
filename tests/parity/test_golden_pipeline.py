"""Calibration, boxes, masks, augmentation, voxels, gt_sampling against OpenPCDet's numbers."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from easydict import EasyDict

from pcdet_distill.datasets.augmentor import DataAugmentor, DataBaseSampler
from pcdet_distill.datasets.augmentor.world import flip_along_axis, rotate_scene, scale_scene
from pcdet_distill.datasets.kitti import camera_boxes
from pcdet_distill.datasets.kitti.calibration import Calibration
from pcdet_distill.datasets.processor.data_processor import mask_points_by_range
from pcdet_distill.ops.boxes import limit_period, mask_boxes_outside_range
from pcdet_distill.ops.voxels import voxelize

Arrays = Mapping[str, np.ndarray]
KITTI_RANGE = np.array([0, -40, -3, 70.4, 40, 1], dtype=np.float32)
IMAGE_SHAPE = np.array([375, 1242], dtype=np.int32)
pipeline = pytest.mark.golden("pipeline/pipeline*.npz")
db_sampler = pytest.mark.golden("pipeline/db_sampler*.npz")


def load_meta(golden_file: Path) -> dict:
    """Settings and numbers that were recorded beside the arrays."""
    return json.loads(golden_file.with_name(f"{golden_file.stem}_meta.json").read_text())


def load_frame(golden_file: Path) -> np.lib.npyio.NpzFile:
    """The real frame that the numbers were recorded on."""
    path = golden_file.parents[1] / "inputs_000008.npz"
    if not path.is_file():
        pytest.skip(f"{path.name}, the frame these numbers were recorded on, is not in this folder")
    return np.load(path, allow_pickle=False)


def calibration_of(arrays: Arrays) -> Calibration:
    """The calibration of a recorded frame."""
    return Calibration(arrays["P2"], arrays["R0"], arrays["Tr_velo2cam"])


@pipeline
def test_points_in_camera_coordinates_and_back(golden_file: Path) -> None:
    golden = np.load(golden_file, allow_pickle=False)
    calib = calibration_of(golden)
    rect = calib.lidar_to_rect(golden["pts_lidar"])
    np.testing.assert_allclose(rect, golden["lidar_to_rect"], rtol=0, atol=1e-5)
    back = calib.rect_to_lidar(rect)
    np.testing.assert_allclose(back, golden["rect_to_lidar_roundtrip"], rtol=0, atol=1e-5)


@pipeline
def test_points_in_the_image_and_back(golden_file: Path) -> None:
    golden = np.load(golden_file, allow_pickle=False)
    calib = calibration_of(golden)
    pixels, depth_m = calib.lidar_to_img(golden["pts_lidar"])
    np.testing.assert_allclose(pixels, golden["lidar_to_img"], rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(depth_m, golden["lidar_to_img_depth"], rtol=1e-6, atol=1e-5)
    u, v = golden["lidar_to_img"].T
    back = calib.img_to_rect(u, v, golden["lidar_to_img_depth"])
    np.testing.assert_allclose(back, golden["img_to_rect"], rtol=1e-6, atol=1e-5)


@pipeline
def test_box_conversions(golden_file: Path) -> None:
    golden = np.load(golden_file, allow_pickle=False)
    calib = calibration_of(golden)
    lidar = camera_boxes.boxes_camera_to_lidar(golden["boxes_camera"], calib)
    np.testing.assert_allclose(lidar, golden["boxes_lidar"], rtol=0, atol=1e-5)
    back = camera_boxes.boxes_lidar_to_camera(golden["boxes_lidar"], calib)
    np.testing.assert_allclose(back, golden["boxes_camera_back"], rtol=0, atol=1e-5)
    corners = camera_boxes.corners_of_camera_boxes(golden["boxes_camera"])
    np.testing.assert_allclose(corners, golden["corners_camera"], rtol=0, atol=1e-5)


@pipeline
def test_boxes_in_the_image(golden_file: Path) -> None:
    golden = np.load(golden_file, allow_pickle=False)
    calib = calibration_of(golden)
    boxes = golden["boxes_camera"]
    clipped = camera_boxes.image_boxes_of_camera_boxes(boxes, calib, IMAGE_SHAPE)
    expected = golden["image_boxes_clipped_375x1242"]
    np.testing.assert_allclose(clipped, expected, rtol=1e-5, atol=1e-3)
    unclipped = camera_boxes.image_boxes_of_camera_boxes(boxes, calib)
    expected = golden["image_boxes_unclipped"]
    np.testing.assert_allclose(unclipped, expected, rtol=1e-5, atol=1e-3)


def unpack_mask(packed: np.ndarray, length: int) -> np.ndarray:
    """A mask that was recorded as one bit an entry."""
    return np.unpackbits(packed)[:length] == 1


@pipeline
def test_masks_of_points(golden_file: Path) -> None:
    golden = np.load(golden_file, allow_pickle=False)
    meta = load_meta(golden_file)
    calib = calibration_of(golden)
    points = load_frame(golden_file)["points"]

    in_range = unpack_mask(golden["range_mask_packed"], len(points))
    assert in_range.sum() == meta["range_mask_sum"]
    np.testing.assert_array_equal(mask_points_by_range(points, KITTI_RANGE), in_range)

    in_view = unpack_mask(golden["fov_mask_packed"], len(points))
    assert in_view.sum() == meta["fov_mask_sum"]
    camera_points = calib.lidar_to_rect(points[:, :3])
    np.testing.assert_array_equal(calib.in_image(camera_points, IMAGE_SHAPE), in_view)


@pipeline
def test_masks_of_boxes(golden_file: Path) -> None:
    golden = np.load(golden_file, allow_pickle=False)
    boxes = golden["range_boxes"]
    by_centre = mask_boxes_outside_range(boxes, KITTI_RANGE)
    np.testing.assert_array_equal(by_centre, golden["mask_boxes_center"])
    for corners in (1, 4):
        mask = mask_boxes_outside_range(boxes, KITTI_RANGE, corners, use_center_to_filter=False)
        np.testing.assert_array_equal(mask, golden[f"mask_boxes_corner{corners}"])


@pipeline
@pytest.mark.parametrize("name", ["flipx", "flipy", "rot", "scale"])
def test_single_augmentation(golden_file: Path, name: str) -> None:
    golden = np.load(golden_file, allow_pickle=False)
    meta = load_meta(golden_file)
    points = golden["aug_points"].copy()
    boxes = golden["aug_boxes"].copy()
    change = {
        "flipx": lambda: flip_along_axis(points, boxes, "x"),
        "flipy": lambda: flip_along_axis(points, boxes, "y"),
        "rot": lambda: rotate_scene(points, boxes, meta["rot_angle"]),
        "scale": lambda: scale_scene(points, boxes, meta["scale"]),
    }
    change[name]()
    np.testing.assert_allclose(points, golden[f"{name}_points"], rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(boxes, golden[f"{name}_boxes"], rtol=1e-6, atol=1e-5)


@pipeline
def test_chain_of_the_kitti_configs(golden_file: Path) -> None:
    golden = np.load(golden_file, allow_pickle=False)
    meta = load_meta(golden_file)["kitti_chain_seed_1024_plus_off"]
    configs = [
        EasyDict(NAME="random_world_flip", ALONG_AXIS_LIST=["x"]),
        EasyDict(NAME="random_world_rotation", WORLD_ROT_ANGLE=[-0.78539816, 0.78539816]),
        EasyDict(NAME="random_world_scaling", WORLD_SCALE_RANGE=[0.95, 1.05]),
    ]
    item = {
        "points": golden["aug_points"].copy(),
        "gt_boxes": golden["aug_boxes"].copy(),
        "gt_names": np.array([]),
    }
    augmentor = DataAugmentor(Path("."), configs, ["Car"])
    item = augmentor.forward(item, np.random.RandomState(meta["seed"]))
    assert item["flip_x"] == meta["flip"]
    assert item["noise_rot"] == pytest.approx(meta["rot"], rel=1e-12, abs=0)
    assert item["noise_scale"] == pytest.approx(meta["scale"], rel=1e-12, abs=0)
    np.testing.assert_allclose(item["points"], golden["chain_points"], rtol=1e-6, atol=1e-5)
    expected = golden["chain_boxes"].copy()
    # The recorded headings are not wrapped yet.
    expected[:, 6] = limit_period(expected[:, 6], 0.5, 2 * np.pi)
    np.testing.assert_allclose(item["gt_boxes"], expected, rtol=1e-6, atol=1e-5)


@pipeline
def test_voxels_bit_for_bit(golden_file: Path) -> None:
    golden = np.load(golden_file, allow_pickle=False)
    meta = load_meta(golden_file)
    points = load_frame(golden_file)["points"]
    cases = [name for name in meta if name.startswith("voxel_")]
    assert cases
    for name in cases:
        case = meta[name]
        voxels, coords, num_points = voxelize(
            points, case["range"], case["voxel_size"], case["max_points"], case["max_voxels"]
        )
        np.testing.assert_array_equal(coords, golden[f"{name}_coords"])
        np.testing.assert_array_equal(num_points, golden[f"{name}_num"])
        assert hashlib.sha256(voxels.tobytes()).hexdigest() == case["sha_voxels_f32"], name


def write_database(root: Path, golden: Arrays) -> None:
    """The recorded database as files: objects and kitti_dbinfos_train.pkl."""
    (root / "gt_database").mkdir()
    ends_of_objects = np.cumsum(golden["db_num_points"])[:-1]
    points_of_objects = np.split(golden["db_points"], ends_of_objects)
    infos: dict[str, list[dict]] = {}
    for index, points in enumerate(points_of_objects):
        name = str(golden["db_class"][index])
        path = f"gt_database/{index:06d}_{name}_0.bin"
        points.tofile(root / path)
        infos.setdefault(name, []).append(
            {
                "name": name,
                "path": path,
                "box3d_lidar": golden["db_box"][index],
                "num_points_in_gt": len(points),
                "difficulty": int(golden["db_difficulty"][index]),
            }
        )
    (root / "kitti_dbinfos_train.pkl").write_bytes(pickle.dumps(infos))


@db_sampler
@pytest.mark.parametrize("tag", ["plain", "limit_plane"])
def test_gt_sampling_over_several_calls(golden_file: Path, tag: str, tmp_path: Path) -> None:
    golden = np.load(golden_file, allow_pickle=False)
    meta = load_meta(golden_file)
    case = meta[tag]
    frame = load_frame(golden_file)
    write_database(tmp_path, golden)
    sampler = DataBaseSampler(tmp_path, EasyDict(case["cfg"]), ["Car", "Pedestrian", "Cyclist"])
    objects_left = {name: len(infos) for name, infos in sampler.db_infos.items()}
    assert objects_left == case["db_left"]
    random = np.random.RandomState(case["seed"])
    cursors = sampler.new_cursors()
    scene_names = np.array(["Car"] * 5 + ["Van"])
    for number, call in enumerate(case["calls"]):
        item = {
            "points": frame["points"].copy(),
            "gt_boxes": golden["scene_gt"].copy(),
            "gt_names": scene_names,
            "gt_boxes_mask": scene_names != "Van",
            "calib": calibration_of(frame),
            "road_plane": np.array(meta["road_plane"]),
        }
        sampler(item, random, cursors)
        names = item["gt_names"].tolist()
        assert names == call["names"]
        assert names == golden[f"{tag}_{number}_gt_names"].tolist()
        boxes = item["gt_boxes"]
        expected_boxes = golden[f"{tag}_{number}_gt_boxes"]
        np.testing.assert_allclose(boxes, expected_boxes, rtol=1e-6, atol=1e-5)
        assert boxes.dtype.name == call["gt_dtype"]

        points = item["points"]
        sums = points.sum(axis=0, dtype=np.float64)
        assert len(points) == call["num_points"]
        np.testing.assert_allclose(sums, call["points_sum_f64"], rtol=1e-6)
        assert points.dtype.name == call["dtype"]

        # Where in its list of objects each class goes on.
        for name, cursor in cursors.items():
            pointer, _ = call["pointers"][name]
            assert cursor.pointer == pointer
        assert set(cursors) == set(call["pointers"])
