"""Labels of simulated frames: boxes fit the points, images and calibration agree."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from pcdet_distill.datasets.synthetic import create_synthetic_kitti
from pcdet_distill.datasets.synthetic.labels import frame_labels
from pcdet_distill.datasets.synthetic.sensors.camera import IMAGE_HEIGHT, IMAGE_WIDTH, Camera
from pcdet_distill.datasets.synthetic.writer import simulate_frame

FRAMES = 24
SEED = 5
CLASSES = {"Car", "Van", "Truck", "Pedestrian", "Person_sitting", "Cyclist", "DontCare"}
Calibration = dict[str, np.ndarray]


class Label(NamedTuple):
    """The fields of a label line, in KITTI's order; lengths in metres, angles in radians."""

    name: str
    truncated: float
    occluded: float
    alpha: float
    left: float
    top: float
    right: float
    bottom: float
    height: float
    width: float
    length: float
    x: float
    y: float
    z: float
    rotation_y: float

    @classmethod
    def from_line(cls, line: str) -> Label:
        name, *numbers = line.split()
        assert len(numbers) == 14, line
        return cls(name, *map(float, numbers))

    @property
    def bottom_centre(self) -> np.ndarray:
        """(3,) the place of the box in the rectified camera frame."""
        return np.array([self.x, self.y, self.z])


class LabelledObject(NamedTuple):
    """A labelled object and its points.

    Attributes:
        points: (N, 3) all points of the frame.
        is_own: (N,) bool, the returns of the object.
        label: its label.
        calib: the frame's calibration.
    """

    points: np.ndarray
    is_own: np.ndarray
    label: Label
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


def read_lines(folder: Path, frame: int) -> list[str]:
    return (folder / f"training/label_2/{frame:06d}.txt").read_text().splitlines()


def read_objects(folder: Path, frame: int) -> list[Label]:
    """All labels of a frame but DontCare."""
    labels = [Label.from_line(line) for line in read_lines(folder, frame)]
    return [label for label in labels if label.name != "DontCare"]


def to_rect(points: np.ndarray, calib: Calibration) -> np.ndarray:
    """LiDAR points (N, 3) in the rectified camera frame, by the calibration file."""
    from_lidar = calib["Tr_velo_to_cam"]
    in_camera = points @ from_lidar[:, :3].T + from_lidar[:, 3]
    return in_camera @ calib["R0_rect"].T


def in_box_frame(points: np.ndarray, label: Label, calib: Calibration) -> np.ndarray:
    """LiDAR points in the frame of a labelled box: along its length, up from its bottom, across."""
    right, down, ahead = (to_rect(points, calib) - label.bottom_centre).T
    cos = np.cos(label.rotation_y)
    sin = np.sin(label.rotation_y)
    along = cos * right - sin * ahead
    across = sin * right + cos * ahead
    return np.column_stack([along, -down, across])


def is_in_box(points: np.ndarray, label: Label, calib: Calibration, margin_m: float) -> np.ndarray:
    """(N,) bool, which points lie in a labelled box that is larger by a margin."""
    along, up, across = in_box_frame(points, label, calib).T
    in_length = np.abs(along) < label.length / 2 + margin_m
    in_width = np.abs(across) < label.width / 2 + margin_m
    in_height = (up > -margin_m) & (up < label.height + margin_m)
    return in_length & in_width & in_height


def objects_of_frame(folder: Path, frame: int) -> list[LabelledObject]:
    """The labels of a frame, each with the simulated object that stands nearest to it."""
    scene, sweep = simulate_frame(SEED, frame)
    points = sweep.points[:, :3].astype(float)
    calib = read_calibration(folder, frame)
    road_users = []
    for index, simulated in enumerate(scene.labels):
        has_returns = (sweep.owner == index).any()
        if simulated is not None and has_returns:
            road_users.append(index)
    places = scene.instances.poses[road_users][:, :3]
    bottoms = Camera.standard().to_rect(places)
    objects = []
    for label in read_objects(folder, frame):
        distance_m = np.linalg.norm(bottoms - label.bottom_centre, axis=1)
        owner = road_users[int(distance_m.argmin())]
        objects.append(LabelledObject(points, sweep.owner == owner, label, calib))
    return objects


def labelled_objects(folder: Path) -> list[LabelledObject]:
    """All labelled objects of the folder."""
    objects = []
    for frame in range(FRAMES):
        objects += objects_of_frame(folder, frame)
    return objects


def test_labels_have_fifteen_fields_in_kittis_ranges(folder: Path) -> None:
    for frame in range(FRAMES):
        for label in read_objects(folder, frame):
            assert label.name in CLASSES
            assert 0.0 <= label.truncated <= 0.95
            assert label.occluded in (0, 1, 2)
            assert abs(label.alpha) <= np.pi + 0.01
            assert 0 <= label.left < label.right <= IMAGE_WIDTH - 1
            assert 0 <= label.top < label.bottom <= IMAGE_HEIGHT - 1


def test_dontcare_comes_last_and_has_a_box_in_the_image_only(folder: Path) -> None:
    for frame in range(FRAMES):
        rows = [line.split() for line in read_lines(folder, frame)]
        is_dontcare = [row[0] == "DontCare" for row in rows]
        assert is_dontcare == sorted(is_dontcare)
        for row in rows:
            if row[0] == "DontCare":
                truncated, occluded, alpha = row[1:4]
                size, place, rotation_y = row[8:11], row[11:14], row[14:]
                assert (truncated, occluded, alpha) == ("-1", "-1", "-10")
                assert size == ["-1", "-1", "-1"]
                assert place == ["-1000", "-1000", "-1000"]
                assert rotation_y == ["-10"]


def test_returns_of_an_object_lie_inside_its_box(folder: Path) -> None:
    objects = labelled_objects(folder)
    assert len(objects) > 5 * FRAMES / 2
    for points, is_own, label, calib in objects:
        fits = is_in_box(points[is_own], label, calib, margin_m=0.10)
        assert fits.mean() > 0.995, label


def test_a_box_holds_few_points_of_others(folder: Path) -> None:
    """In a slightly smaller box: only ground that rises into it."""
    num_others = 0
    num_own = 0
    for points, is_own, label, calib in labelled_objects(folder):
        in_box = is_in_box(points, label, calib, margin_m=-0.05)
        num_others += (in_box & ~is_own).sum()
        num_own += is_own.sum()
    assert num_others < 0.01 * num_own


def test_boxes_are_no_larger_than_their_objects(folder: Path) -> None:
    """A near and wholly visible object has points near the top and the bottom of its box."""
    num_checked = 0
    for points, is_own, label, calib in labelled_objects(folder):
        is_person = label.name in ("Pedestrian", "Cyclist")
        is_whole = label.truncated <= 0 and label.occluded == 0
        is_near = is_own.sum() >= 250
        if is_person and is_whole and is_near:
            _, up, _ = in_box_frame(points[is_own], label, calib).T
            assert up.max() > label.height - 0.15
            assert up.min() < 0.25
            num_checked += 1
    assert num_checked > 2


def test_returns_project_into_the_2d_box(folder: Path) -> None:
    for points, is_own, label, calib in labelled_objects(folder):
        rect = to_rect(points[is_own], calib)
        homogeneous = np.column_stack([rect, np.ones(len(rect))])
        u_times_depth, v_times_depth, depth = (homogeneous @ calib["P2"].T).T
        u = u_times_depth / depth
        v = v_times_depth / depth
        # Range noise and rounding move a point by some centimetres; 720 is the focal length.
        nearest_m = rect[:, 2].min()
        slack = 2.0 + 720 * 0.06 / nearest_m
        assert u.min() >= label.left - slack
        assert u.max() <= label.right + slack
        assert v.min() >= label.top - slack
        assert v.max() <= label.bottom + slack


def test_alpha_is_the_rotation_relative_to_the_viewing_ray(folder: Path) -> None:
    for frame in range(FRAMES):
        for label in read_objects(folder, frame):
            viewing_angle = np.arctan2(label.x, label.z)
            difference = label.alpha - (label.rotation_y - viewing_angle)
            within_half_a_turn = (difference + np.pi) % (2 * np.pi) - np.pi
            assert abs(within_half_a_turn) < 0.03


@pytest.fixture(scope="module")
def traffic() -> list[Label]:
    """The labels of 80 frames."""
    labels = []
    for frame in range(80):
        scene, sweep = simulate_frame(11, frame)
        for label in frame_labels(scene, sweep, Camera.standard()):
            labels.append(Label.from_line(label.line()))
    return labels


def test_traffic_is_mixed(traffic: list[Label]) -> None:
    counts = Counter(label.name for label in traffic)
    assert 3.5 < counts["Car"] / 80 < 7.0
    assert 1.3 < counts["Pedestrian"] / 80 < 3.0
    assert 0.9 < counts["Cyclist"] / 80 < 2.5
    assert 0.1 < counts["Van"] / 80 < 1.0
    assert 0.1 < counts["DontCare"] / 80 < 2.0


def test_cars_are_seen_from_all_sides(traffic: list[Label]) -> None:
    headings = np.array([label.rotation_y for label in traffic if label.name == "Car"])
    quarter_turns = np.round((headings + np.pi) / (np.pi / 2))
    counts = Counter((quarter_turns % 4).astype(int).tolist())
    along_the_street = (1, 3)
    across_it = (0, 2)
    assert all(counts[quarter] > 40 for quarter in along_the_street)
    assert all(counts[quarter] > 3 for quarter in across_it)


def test_objects_are_hidden_and_cut_off_to_every_degree(traffic: list[Label]) -> None:
    assert {label.occluded for label in traffic if label.name == "Car"} == {0, 1, 2}
    assert max(label.truncated for label in traffic) > 0.3


AHEAD = np.array([0.0, 1.0, 10.0])
SIZE_M = np.array([4.0, 2.0, 1.5])


@pytest.fixture(scope="module")
def camera() -> Camera:
    """Focal length 700, middle of the image at (600, 180), no rotation and no offset."""
    projection = np.array([[700.0, 0, 600, 0], [0, 700, 180, 0], [0, 0, 1, 0]])
    return Camera(np.stack([projection] * 4), np.eye(3), np.eye(3, 4))


def test_box_in_image_against_corners_computed_by_hand(camera: Camera) -> None:
    # The nearest corners: x = +-2, y from -0.5 to 1, z = 10 - 2 / 2 = 9.
    box = camera.box_in_image(AHEAD, SIZE_M, 0.0)
    expected = [600 - 700 * 2 / 9, 180 - 700 * 0.5 / 9, 600 + 700 * 2 / 9, 180 + 700 * 1 / 9]
    np.testing.assert_allclose(box, expected)
    # Turned by a quarter: x = +-1, y from -0.5 to 1, z = 10 - 4 / 2 = 8.
    box = camera.box_in_image(AHEAD, SIZE_M, np.pi / 2)
    expected = [600 - 700 * 1 / 8, 180 - 700 * 0.5 / 8, 600 + 700 * 1 / 8, 180 + 700 * 1 / 8]
    np.testing.assert_allclose(box, expected)


def test_a_box_behind_the_camera_is_not_in_the_image(camera: Camera) -> None:
    assert camera.box_in_image(np.array([0.0, 1.0, -5.0]), SIZE_M, 0.0) is None


def test_a_box_half_behind_the_camera_reaches_beyond_the_image(camera: Camera) -> None:
    box = camera.box_in_image(np.array([3.0, 1.0, 0.0]), SIZE_M, np.pi / 2)
    left, top, right, bottom = box
    assert np.isfinite(box).all()
    assert right > 1242
