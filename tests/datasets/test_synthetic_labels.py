"""Labels of simulated frames: boxes fit the points, images and calibration agree, rules for DontCare."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pcdet_distill.datasets.synthetic import create_synthetic_kitti
from pcdet_distill.datasets.synthetic.camera import IMAGE_HEIGHT, IMAGE_WIDTH, Camera
from pcdet_distill.datasets.synthetic.labels import kitti_label_lines
from pcdet_distill.datasets.synthetic.writer import simulate_frame

FRAMES = 24
CLASSES = {"Car", "Van", "Truck", "Pedestrian", "Person_sitting", "Cyclist", "DontCare"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return create_synthetic_kitti(
        tmp_path_factory.mktemp("kitti") / "sim", FRAMES, seed=5, workers=1, progress=False
    )


def read_calibration(folder: Path, frame: int) -> dict[str, np.ndarray]:
    lines = (folder / f"training/calib/{frame:06d}.txt").read_text().splitlines()
    return {
        line.split(":")[0]: np.array(line.split(":")[1].split(), dtype=float).reshape(3, -1)
        for line in lines
    }


def read_labels(folder: Path, frame: int) -> list[list[str]]:
    return [
        line.split()
        for line in (folder / f"training/label_2/{frame:06d}.txt").read_text().splitlines()
    ]


def in_box_frame(points: np.ndarray, label: list[str], calib: dict[str, np.ndarray]) -> np.ndarray:
    """LiDAR points in the frame of a labelled box (length, up from the bottom, width), by KITTI's own conventions."""
    rect = (points @ calib["Tr_velo_to_cam"][:, :3].T + calib["Tr_velo_to_cam"][:, 3]) @ calib[
        "R0_rect"
    ].T
    offset = rect - np.array(label[11:14], dtype=float)
    cos, sin = np.cos(float(label[14])), np.sin(float(label[14]))
    along, across = cos * offset[:, 0] - sin * offset[:, 2], sin * offset[:, 0] + cos * offset[:, 2]
    return np.column_stack([along, -offset[:, 1], across])


def inside_box(
    points: np.ndarray, label: list[str], calib: dict[str, np.ndarray], margin_m: float
) -> np.ndarray:
    height, width, length = (float(value) for value in label[8:11])
    local = in_box_frame(points, label, calib)
    return (
        (np.abs(local[:, 0]) < length / 2 + margin_m)
        & (np.abs(local[:, 2]) < width / 2 + margin_m)
        & (local[:, 1] > -margin_m)
        & (local[:, 1] < height + margin_m)
    )


def objects_with_points(folder: Path) -> list[tuple[np.ndarray, np.ndarray, list[str], dict]]:
    """For each labelled object of the folder: all points, mask of its own returns, its row, the calibration."""
    found = []
    for frame in range(FRAMES):
        scene, sweep = simulate_frame(5, frame)
        calib, rows = read_calibration(folder, frame), read_labels(folder, frame)
        users = [
            k
            for k, label in enumerate(scene.labels)
            if label is not None and (sweep.owner == k).any()
        ]
        for row in rows:
            if row[0] == "DontCare":
                continue
            bottoms = Camera.standard().to_rect(scene.instances.poses[users][:, :3])
            owner = users[
                int(np.linalg.norm(bottoms - np.array(row[11:14], dtype=float), axis=1).argmin())
            ]
            found.append((sweep.points.astype(float), sweep.owner == owner, row, calib))
    return found


def test_rows_have_fifteen_fields_and_dontcare_is_last(folder: Path):
    for frame in range(FRAMES):
        rows = read_labels(folder, frame)
        kinds = [row[0] for row in rows]
        assert all(len(row) == 15 for row in rows) and set(kinds) <= CLASSES
        assert kinds == [k for k in kinds if k != "DontCare"] + [
            k for k in kinds if k == "DontCare"
        ]
        for row in rows:
            if row[0] == "DontCare":
                assert row[1:4] == ["-1", "-1", "-10"] and row[8:] == ["-1"] * 3 + ["-1000"] * 3 + [
                    "-10"
                ]
                continue
            truncated, occluded, alpha, left, top, right, bottom = map(float, row[1:8])
            assert 0.0 <= truncated <= 0.95 and occluded in (0, 1, 2) and abs(alpha) <= np.pi + 0.01
            assert 0 <= left < right <= IMAGE_WIDTH - 1 and 0 <= top < bottom <= IMAGE_HEIGHT - 1


def test_returns_of_an_object_lie_inside_its_box(folder: Path):
    objects = objects_with_points(folder)
    assert len(objects) > 5 * FRAMES / 2
    for points, own, row, calib in objects:
        fits = inside_box(points[own, :3], row, calib, margin_m=0.10)
        assert fits.mean() > 0.995, row


def test_a_box_holds_its_returns_and_little_else(folder: Path):
    """The number of points in a slightly smaller box that are not the object's: only ground that rises into it."""
    strangers = own_total = 0
    for points, own, row, calib in objects_with_points(folder):
        inside = inside_box(points[:, :3], row, calib, margin_m=-0.05)
        strangers, own_total = strangers + (inside & ~own).sum(), own_total + own.sum()
    assert strangers < 0.01 * own_total


def test_boxes_are_no_larger_than_what_they_hold(folder: Path):
    """An object seen whole from nearby reaches its box's near faces."""
    checked = 0
    for points, own, row, calib in objects_with_points(folder):
        if (
            row[0] not in ("Pedestrian", "Cyclist")
            or own.sum() < 250
            or float(row[1]) > 0
            or row[2] != "0"
        ):
            continue
        local = in_box_frame(points[own, :3], row, calib)
        height = float(row[8])
        assert local[:, 1].max() > height - 0.15 and local[:, 1].min() < 0.25
        checked += 1
    assert checked > 2


def test_returns_project_into_the_2d_box(folder: Path):
    for points, own, row, calib in objects_with_points(folder):
        rect = (
            points[own, :3] @ calib["Tr_velo_to_cam"][:, :3].T + calib["Tr_velo_to_cam"][:, 3]
        ) @ calib["R0_rect"].T
        image = np.column_stack([rect, np.ones(len(rect))]) @ calib["P2"].T
        pixel = image[:, :2] / image[:, 2:]
        left, top, right, bottom = (float(value) for value in row[4:8])
        slack = (
            2.0 + 720 * 0.06 / rect[:, 2].min()
        )  # range noise and rounding move a point by some centimetres
        assert (pixel >= [left - slack, top - slack]).all() and (
            pixel <= [right + slack, bottom + slack]
        ).all()


def test_alpha_is_rotation_seen_along_the_ray(folder: Path):
    for row in (
        row for frame in range(FRAMES) for row in read_labels(folder, frame) if row[0] != "DontCare"
    ):
        x, z, rotation_y = float(row[11]), float(row[13]), float(row[14])
        turn = float(row[3]) - (rotation_y - np.arctan2(x, z))
        assert abs((turn + np.pi) % (2 * np.pi) - np.pi) < 0.03


def test_traffic_is_mixed_and_seen_from_all_sides():
    rows = []
    for frame in range(80):
        scene, sweep = simulate_frame(11, frame)
        rows += [line.split() for line in kitti_label_lines(scene, sweep, Camera.standard())]
    per_frame = {name: sum(row[0] == name for row in rows) / 80 for name in CLASSES}
    assert (
        3.5 < per_frame["Car"] < 7.0
        and 1.3 < per_frame["Pedestrian"] < 3.0
        and 0.9 < per_frame["Cyclist"] < 2.5
    )
    assert 0.1 < per_frame["Van"] < 1.0 and 0.1 < per_frame["DontCare"] < 2.0
    heading = np.array([float(row[14]) for row in rows if row[0] == "Car"])
    quarters = np.bincount(((heading + np.pi) / (np.pi / 2) + 0.5).astype(int) % 4, minlength=4)
    assert (quarters[[1, 3]] > 40).all() and (quarters[[0, 2]] > 3).all()
    assert {row[2] for row in rows if row[0] == "Car"} == {"0", "1", "2"}
    assert any(float(row[1]) > 0.3 for row in rows)


def test_box_in_image_against_hand_computed_corners():
    camera = Camera(
        np.stack([np.array([[700.0, 0, 600, 0], [0, 700, 180, 0], [0, 0, 1, 0]])] * 4),
        np.eye(3),
        np.eye(3, 4),
    )
    box = camera.box_in_image(np.array([0.0, 1.0, 10.0]), np.array([4.0, 2.0, 1.5]), 0.0)
    # nearest corners: x = +-2, z = 9, y from -0.5 to 1
    np.testing.assert_allclose(box, [600 - 1400 / 9, 180 - 350 / 9, 600 + 1400 / 9, 180 + 700 / 9])
    quarter = camera.box_in_image(np.array([0.0, 1.0, 10.0]), np.array([4.0, 2.0, 1.5]), np.pi / 2)
    np.testing.assert_allclose(
        quarter, [600 - 700 / 8, 180 - 350 / 8, 600 + 700 / 8, 180 + 700 / 8]
    )
    assert camera.box_in_image(np.array([0.0, 1.0, -5.0]), np.array([4.0, 2.0, 1.5]), 0.0) is None
    cut = camera.box_in_image(np.array([3.0, 1.0, 0.0]), np.array([4.0, 2.0, 1.5]), np.pi / 2)
    assert (
        np.isfinite(cut).all() and cut[2] > 1242
    )  # half behind the camera: reaches beyond the image
