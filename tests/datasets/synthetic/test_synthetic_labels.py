"""Labels of simulated frames: boxes fit the points, images and calibration agree."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from pcdet_distill.datasets.synthetic import create_synthetic_kitti
from pcdet_distill.datasets.synthetic.camera import IMAGE_HEIGHT, IMAGE_WIDTH, Camera
from pcdet_distill.datasets.synthetic.labels import kitti_label_lines
from pcdet_distill.datasets.synthetic.writer import simulate_frame

FRAMES = 24
SEED = 5
CLASSES = {"Car", "Van", "Truck", "Pedestrian", "Person_sitting", "Cyclist", "DontCare"}
Calibration = dict[str, np.ndarray]


class LabelledObject(NamedTuple):
    """A labelled object and its points.

    Attributes:
        points: (N, 3) all points of the frame.
        is_own: (N,) bool, the returns of the object.
        row: its label.
        calib: the frame's calibration.
    """

    points: np.ndarray
    is_own: np.ndarray
    row: list[str]
    calib: Calibration


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("kitti") / "sim"
    return create_synthetic_kitti(out, FRAMES, seed=SEED, workers=1, progress=False)


def read_calibration(folder: Path, frame: int) -> Calibration:
    calib = {}
    for line in (folder / f"training/calib/{frame:06d}.txt").read_text().splitlines():
        name, numbers = line.split(":")
        calib[name] = np.array(numbers.split(), dtype=float).reshape(3, -1)
    return calib


def read_labels(folder: Path, frame: int) -> list[list[str]]:
    lines = (folder / f"training/label_2/{frame:06d}.txt").read_text().splitlines()
    return [line.split() for line in lines]


def to_rect(points: np.ndarray, calib: Calibration) -> np.ndarray:
    """LiDAR points (N, 3) in the rectified camera frame, by the calibration file."""
    from_lidar = calib["Tr_velo_to_cam"]
    in_camera = points @ from_lidar[:, :3].T + from_lidar[:, 3]
    return in_camera @ calib["R0_rect"].T


def in_box_frame(points: np.ndarray, row: list[str], calib: Calibration) -> np.ndarray:
    """LiDAR points in the frame of a labelled box: along its length, up from its bottom, across."""
    offset = to_rect(points, calib) - np.array(row[11:14], dtype=float)
    cos = np.cos(float(row[14]))
    sin = np.sin(float(row[14]))
    along = cos * offset[:, 0] - sin * offset[:, 2]
    across = sin * offset[:, 0] + cos * offset[:, 2]
    return np.column_stack([along, -offset[:, 1], across])


def is_in_box(
    points: np.ndarray, row: list[str], calib: Calibration, margin_m: float
) -> np.ndarray:
    """(N,) bool, which points lie in a labelled box that is larger by a margin."""
    height, width, length = (float(value) for value in row[8:11])
    along, up, across = in_box_frame(points, row, calib).T
    in_length = np.abs(along) < length / 2 + margin_m
    in_width = np.abs(across) < width / 2 + margin_m
    in_height = (up > -margin_m) & (up < height + margin_m)
    return in_length & in_width & in_height


def labelled_objects(folder: Path) -> list[LabelledObject]:
    """All labelled objects of the folder."""
    objects = []
    for frame in range(FRAMES):
        scene, sweep = simulate_frame(SEED, frame)
        points = sweep.points[:, :3].astype(float)
        calib = read_calibration(folder, frame)
        road_users = []
        for index, label in enumerate(scene.labels):
            if label is not None and (sweep.owner == index).any():
                road_users.append(index)
        bottoms = Camera.standard().to_rect(scene.instances.poses[road_users][:, :3])
        for row in read_labels(folder, frame):
            if row[0] == "DontCare":
                continue
            distance_m = np.linalg.norm(bottoms - np.array(row[11:14], dtype=float), axis=1)
            owner = road_users[int(distance_m.argmin())]
            objects.append(LabelledObject(points, sweep.owner == owner, row, calib))
    return objects


def test_rows_have_fifteen_fields_and_dontcare_comes_last(folder: Path) -> None:
    for frame in range(FRAMES):
        rows = read_labels(folder, frame)
        names = [row[0] for row in rows]
        assert all(len(row) == 15 for row in rows)
        assert set(names) <= CLASSES
        assert names == sorted(names, key=lambda name: name == "DontCare")
        for row in rows:
            if row[0] == "DontCare":
                assert row[1:4] == ["-1", "-1", "-10"]
                assert row[8:] == ["-1"] * 3 + ["-1000"] * 3 + ["-10"]
                continue
            truncated, occluded, alpha, left, top, right, bottom = map(float, row[1:8])
            assert 0.0 <= truncated <= 0.95
            assert occluded in (0, 1, 2)
            assert abs(alpha) <= np.pi + 0.01
            assert 0 <= left < right <= IMAGE_WIDTH - 1
            assert 0 <= top < bottom <= IMAGE_HEIGHT - 1


def test_returns_of_an_object_lie_inside_its_box(folder: Path) -> None:
    objects = labelled_objects(folder)
    assert len(objects) > 5 * FRAMES / 2
    for points, is_own, row, calib in objects:
        fits = is_in_box(points[is_own], row, calib, margin_m=0.10)
        assert fits.mean() > 0.995, row


def test_a_box_holds_few_points_of_others(folder: Path) -> None:
    """In a slightly smaller box: only ground that rises into it."""
    num_others = 0
    num_own = 0
    for points, is_own, row, calib in labelled_objects(folder):
        in_box = is_in_box(points, row, calib, margin_m=-0.05)
        num_others += (in_box & ~is_own).sum()
        num_own += is_own.sum()
    assert num_others < 0.01 * num_own


def test_boxes_are_no_larger_than_their_objects(folder: Path) -> None:
    """A near and wholly visible object has points near the top and the bottom of its box."""
    num_checked = 0
    for points, is_own, row, calib in labelled_objects(folder):
        is_person = row[0] in ("Pedestrian", "Cyclist")
        is_whole = float(row[1]) <= 0 and row[2] == "0"
        if not is_person or not is_whole or is_own.sum() < 250:
            continue
        up = in_box_frame(points[is_own], row, calib)[:, 1]
        height = float(row[8])
        assert up.max() > height - 0.15
        assert up.min() < 0.25
        num_checked += 1
    assert num_checked > 2


def test_returns_project_into_the_2d_box(folder: Path) -> None:
    for points, is_own, row, calib in labelled_objects(folder):
        rect = to_rect(points[is_own], calib)
        image = np.column_stack([rect, np.ones(len(rect))]) @ calib["P2"].T
        pixels = image[:, :2] / image[:, 2:]
        left, top, right, bottom = (float(value) for value in row[4:8])
        # Range noise and rounding move a point by some centimetres.
        slack = 2.0 + 720 * 0.06 / rect[:, 2].min()
        assert (pixels >= [left - slack, top - slack]).all()
        assert (pixels <= [right + slack, bottom + slack]).all()


def test_alpha_is_the_rotation_relative_to_the_viewing_ray(folder: Path) -> None:
    for frame in range(FRAMES):
        for row in read_labels(folder, frame):
            if row[0] == "DontCare":
                continue
            alpha = float(row[3])
            x, z, rotation_y = float(row[11]), float(row[13]), float(row[14])
            difference = alpha - (rotation_y - np.arctan2(x, z))
            assert abs((difference + np.pi) % (2 * np.pi) - np.pi) < 0.03


def test_traffic_is_mixed_and_seen_from_all_sides() -> None:
    frames = 80
    rows = []
    for frame in range(frames):
        scene, sweep = simulate_frame(11, frame)
        rows += [line.split() for line in kitti_label_lines(scene, sweep, Camera.standard())]
    per_frame = {name: sum(row[0] == name for row in rows) / frames for name in CLASSES}
    assert 3.5 < per_frame["Car"] < 7.0
    assert 1.3 < per_frame["Pedestrian"] < 3.0
    assert 0.9 < per_frame["Cyclist"] < 2.5
    assert 0.1 < per_frame["Van"] < 1.0
    assert 0.1 < per_frame["DontCare"] < 2.0
    cars = [row for row in rows if row[0] == "Car"]
    headings = np.array([float(row[14]) for row in cars])
    nearest_quarter = ((headings + np.pi) / (np.pi / 2) + 0.5).astype(int) % 4
    counts = np.bincount(nearest_quarter, minlength=4)
    assert (counts[[1, 3]] > 40).all()  # along the street, in both directions
    assert (counts[[0, 2]] > 3).all()  # across it
    assert {row[2] for row in cars} == {"0", "1", "2"}
    assert any(float(row[1]) > 0.3 for row in rows)


def test_box_in_image_against_corners_computed_by_hand() -> None:
    projection = np.array([[700.0, 0, 600, 0], [0, 700, 180, 0], [0, 0, 1, 0]])
    camera = Camera(np.stack([projection] * 4), np.eye(3), np.eye(3, 4))
    ahead = np.array([0.0, 1.0, 10.0])
    size_m = np.array([4.0, 2.0, 1.5])
    # The nearest corners: x = +-2, z = 9, y from -0.5 to 1.
    box = camera.box_in_image(ahead, size_m, 0.0)
    expected = [600 - 1400 / 9, 180 - 350 / 9, 600 + 1400 / 9, 180 + 700 / 9]
    np.testing.assert_allclose(box, expected)
    quarter_turn = camera.box_in_image(ahead, size_m, np.pi / 2)
    expected = [600 - 700 / 8, 180 - 350 / 8, 600 + 700 / 8, 180 + 700 / 8]
    np.testing.assert_allclose(quarter_turn, expected)
    assert camera.box_in_image(np.array([0.0, 1.0, -5.0]), size_m, 0.0) is None
    # Half behind the camera: it reaches beyond the image.
    cut = camera.box_in_image(np.array([3.0, 1.0, 0.0]), size_m, np.pi / 2)
    assert np.isfinite(cut).all()
    assert cut[2] > 1242
