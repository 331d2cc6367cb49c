"""The ROS 2 example's conversions, with messages that have the fields of ROS and no others."""

from __future__ import annotations

import ast
import importlib.util
import math
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

FEATURES = ["x", "y", "z", "intensity"]
# sensor_msgs/PointField: the constants of its message definition.
DATATYPES = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 8}
BOXES = np.float32([[10, -2, -1, 4, 2, 1.5, math.pi / 2], [5, 3, 0, 0.6, 0.7, 1.8, -3]])


@pytest.fixture(scope="module")
def conversions(repo: Path) -> ModuleType:
    """examples/ros2/conversions.py."""
    path = repo / "examples" / "ros2" / "conversions.py"
    spec = importlib.util.spec_from_file_location("ros2_conversions", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass
class Cloud:
    """The fields of sensor_msgs/PointCloud2."""

    height: int
    width: int
    fields: list[SimpleNamespace]
    is_bigendian: bool
    point_step: int
    row_step: int
    data: object
    is_dense: bool = False


def make_cloud(
    points: np.ndarray,
    types: list[str],
    *,
    names: list[str] | None = None,
    order: str = "<",
    rows: int = 1,
    gap: int = 0,
    row_gap: int = 0,
) -> Cloud:
    """A cloud of points (N, C), with ``gap`` bytes before each field and after each row."""
    names = names or FEATURES
    offsets = []
    position = gap
    for kind in types:
        offsets.append(position)
        position += np.dtype(kind).itemsize + gap
    formats = [order + kind for kind in types]
    layout = {"names": names, "formats": formats, "offsets": offsets, "itemsize": position}
    table = np.zeros(len(points), np.dtype(layout))
    for column, name in enumerate(names):
        table[name] = points[:, column]
    data = b""
    for row in np.split(table, rows):
        data += row.tobytes() + b"\xff" * row_gap
    fields = []
    for name, offset, kind in zip(names, offsets, types):
        entry = SimpleNamespace(name=name, offset=offset, datatype=DATATYPES[kind], count=1)
        fields.append(entry)
    width = len(points) // rows
    row_step = width * position + row_gap
    return Cloud(rows, width, fields, order == ">", position, row_step, data)


def whole_points(count: int = 24) -> np.ndarray:
    """Points (N, 4) of small whole numbers, which every datatype holds."""
    return np.random.RandomState(0).randint(0, 100, (count, 4)).astype(np.float32)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", list(DATATYPES))
def test_every_datatype_in_both_byte_orders(conversions: ModuleType, kind: str, order: str) -> None:
    points = whole_points()
    for types in ([kind] * 4, ["f4", "f4", "f4", kind]):
        cloud = make_cloud(points, types, order=order)
        found = conversions.points_of(cloud, FEATURES)
        np.testing.assert_array_equal(found, points)
        assert found.dtype == np.float32 and found.flags.c_contiguous


@pytest.mark.parametrize(("rows", "gap", "row_gap"), [(1, 3, 0), (4, 0, 0), (4, 1, 5), (24, 2, 7)])
def test_padding_and_organised_clouds(
    conversions: ModuleType, rows: int, gap: int, row_gap: int
) -> None:
    points = whole_points()
    cloud = make_cloud(points, ["f4", "f8", "f4", "u1"], rows=rows, gap=gap, row_gap=row_gap)
    np.testing.assert_array_equal(conversions.points_of(cloud, FEATURES), points)


def test_row_step_of_zero_and_a_last_row_without_padding(conversions: ModuleType) -> None:
    points = whole_points()
    cloud = make_cloud(points, ["f4"] * 4)
    cloud.row_step = 0
    np.testing.assert_array_equal(conversions.points_of(cloud, FEATURES), points)
    cloud = make_cloud(points, ["f4"] * 4, rows=4, row_gap=6)
    cloud.data = cloud.data[:-6]
    np.testing.assert_array_equal(conversions.points_of(cloud, FEATURES), points)


@pytest.mark.parametrize("wrap", [bytes, bytearray, lambda data: np.frombuffer(data, np.uint8)])
def test_kinds_of_buffers(conversions: ModuleType, wrap) -> None:
    points = whole_points()
    cloud = make_cloud(points, ["f4"] * 4)
    cloud.data = wrap(cloud.data)
    np.testing.assert_array_equal(conversions.points_of(cloud, FEATURES), points)


def test_points_with_nan_are_dropped_and_columns_found_by_name(conversions: ModuleType) -> None:
    points = whole_points(6)
    points[1, 0] = np.nan
    points[4, 2] = np.inf
    names = ["z", "y", "reflectivity", "x"]
    cloud = make_cloud(points[:, [2, 1, 3, 0]], ["f4"] * 4, names=names)
    found = conversions.points_of(cloud, [*FEATURES, "timestamp"], intensity_scale=0.5)
    expected = points[[0, 2, 3, 5]] * np.float32([1, 1, 1, 0.5])
    np.testing.assert_array_equal(found[:, :4], expected)
    assert not found[:, 4].any()


def test_clouds_without_points(conversions: ModuleType) -> None:
    cloud = make_cloud(np.zeros((0, 4), np.float32), ["f4"] * 4)
    assert conversions.points_of(cloud, FEATURES).shape == (0, 4)


def test_clouds_that_cannot_be_read(conversions: ModuleType) -> None:
    cloud = make_cloud(whole_points(), ["f4"] * 4, names=["x", "y", "z", "rgb"])
    with pytest.raises(ValueError, match="x, y, z, rgb, the model also reads intensity"):
        conversions.points_of(cloud, FEATURES)
    cloud = make_cloud(whole_points(), ["f4"] * 4)
    cloud.data = cloud.data[:-1]
    with pytest.raises(ValueError, match="holds 383 bytes, expected 384"):
        conversions.points_of(cloud, FEATURES)
    cloud = make_cloud(whole_points(), ["f4"] * 4)
    cloud.fields[3].datatype = 9
    with pytest.raises(ValueError, match="intensity has the unknown datatype 9"):
        conversions.points_of(cloud, FEATURES)
    cloud = make_cloud(whole_points(), ["f4"] * 4)
    cloud.fields[3].offset = 14
    with pytest.raises(ValueError):
        conversions.points_of(cloud, FEATURES)


def test_quaternions_turn_from_x_towards_y(conversions: ModuleType) -> None:
    for heading in (-3.0, -0.5, 0.0, 1.2, 3.1):
        x, y, z, w = conversions.quaternion_of(heading)
        assert (x, y) == (0.0, 0.0) and z * z + w * w == pytest.approx(1)
        # The first column of the rotation matrix: where the x axis points to.
        ahead = 1 - 2 * (y * y + z * z), 2 * (x * y + z * w)
        assert ahead == pytest.approx((math.cos(heading), math.sin(heading)))


def slotted(name: str, **members: type):
    """A class of a message: no other member can be set."""
    fields = [(key, kind, field(default_factory=kind)) for key, kind in members.items()]
    return make_dataclass(name, fields, slots=True)


Header = slotted("Header", stamp=int, frame_id=str)
Vector3 = slotted("Vector3", x=float, y=float, z=float)
Quaternion = slotted("Quaternion", x=float, y=float, z=float, w=float)
Pose = slotted("Pose", position=Vector3, orientation=Quaternion)
PoseWithCovariance = slotted("PoseWithCovariance", pose=Pose)
Hypothesis = slotted("Hypothesis", class_id=str, score=float)
BoundingBox3D = slotted("BoundingBox3D", center=Pose, size=Vector3)
Color = slotted("Color", r=float, g=float, b=float, a=float)
MarkerFields = slotted(
    "MarkerFields",
    header=Header,
    ns=str,
    id=int,
    type=int,
    action=int,
    pose=Pose,
    scale=Vector3,
    color=Color,
    text=str,
)


class FakeMarker(MarkerFields):
    """visualization_msgs/Marker with the constants of its definition."""

    __slots__ = ()
    ARROW, CUBE, TEXT_VIEW_FACING = 0, 1, 9
    ADD, DELETEALL = 0, 3


class FakeMessages:
    """The classes that the node passes on."""

    Detection3D = slotted("D", header=Header, results=list, bbox=BoundingBox3D, id=str)
    Detection3DArray = slotted("DA", header=Header, detections=list)
    ObjectHypothesisWithPose = slotted("O", hypothesis=Hypothesis, pose=PoseWithCovariance)
    Marker = FakeMarker
    MarkerArray = slotted("MA", markers=list)


def numbers_of(message: object) -> list[float]:
    """x, y, z (and w) of a message. ROS accepts Python's floats only, so their type is checked."""
    values = [getattr(message, name) for name in message.__slots__]
    assert all(type(value) is float for value in values)
    return values


def test_detections(conversions: ModuleType) -> None:
    header = Header(7, "lidar")
    scores = np.float32([0.9, 0.4])
    found = conversions.detections_of(FakeMessages, header, BOXES, scores, ["Car", "Pedestrian"])
    assert found.header == header and len(found.detections) == 2
    for detection, box, score, name in zip(found.detections, BOXES, scores, ["Car", "Pedestrian"]):
        assert detection.header == header and detection.header is not header
        assert numbers_of(detection.bbox.center.position) == pytest.approx(box[:3].tolist())
        assert numbers_of(detection.bbox.size) == pytest.approx(box[3:6].tolist())
        turn = numbers_of(detection.bbox.center.orientation)
        assert 2 * math.atan2(turn[2], turn[3]) == pytest.approx(float(box[6]))
        (result,) = detection.results
        assert result.hypothesis.class_id == name
        assert type(result.hypothesis.score) is float
        assert result.hypothesis.score == pytest.approx(float(score))
        assert result.pose.pose == detection.bbox.center


def test_detections_with_velocities_and_without_boxes(conversions: ModuleType) -> None:
    header = Header(7, "lidar")
    wide = np.concatenate([BOXES, np.ones((2, 2), np.float32)], axis=1)
    found = conversions.detections_of(FakeMessages, header, wide, np.ones(2), ["Car", "Car"])
    assert len(found.detections) == 2
    empty = np.zeros((0, 7), np.float32), np.zeros(0, np.float32), []
    assert conversions.detections_of(FakeMessages, header, *empty).detections == []
    (clear,) = conversions.markers_of(FakeMessages, header, *empty).markers
    assert clear.action == FakeMarker.DELETEALL


def test_markers(conversions: ModuleType) -> None:
    header = Header(7, "lidar")
    scores = np.float32([0.9, 0.4])
    found = conversions.markers_of(FakeMessages, header, BOXES, scores, ["Car", "Tram"]).markers
    assert found[0].action == FakeMarker.DELETEALL
    assert [marker.type for marker in found[1:]] == [1, 0, 9] * 2
    places = {(marker.ns, marker.id) for marker in found[1:]}
    assert len(places) == 6  # RViz replaces a marker by another of the same name and number
    cuboid, arrow, text = found[1:4]
    assert numbers_of(cuboid.scale) == [4.0, 2.0, 1.5]
    assert numbers_of(cuboid.pose.position) == [10.0, -2.0, -1.0]
    assert cuboid.pose.orientation == arrow.pose.orientation
    assert numbers_of(arrow.scale)[0] > 2.0  # it reaches out of the box
    assert text.text == "Car 0.90"
    assert text.pose.position.z > -1 + 1.5 / 2
    assert all(0 <= value <= 1 for value in numbers_of(cuboid.color))
    assert all(marker.header.frame_id == "lidar" for marker in found)


def test_field_names_are_those_of_ros() -> None:
    """The made-up messages have no member that ROS' definitions do not have."""
    stores = pytest.importorskip("rosbags.typesys")
    types = stores.get_typestore(stores.Stores.ROS2_HUMBLE).types
    marker = types["visualization_msgs/msg/Marker"]
    assert set(MarkerFields.__slots__) <= set(marker.__dataclass_fields__)
    for name in ("ARROW", "CUBE", "TEXT_VIEW_FACING", "ADD", "DELETEALL"):
        assert getattr(marker, name) == getattr(FakeMarker, name)
    cloud = types["sensor_msgs/msg/PointCloud2"]
    assert set(Cloud.__dataclass_fields__) <= set(cloud.__dataclass_fields__)
    fields = types["sensor_msgs/msg/PointField"]
    assert [fields.INT8, fields.UINT8, fields.FLOAT32, fields.FLOAT64] == [1, 2, 7, 8]


def test_the_node_imports_what_the_robot_has(repo: Path) -> None:
    """No module of this package, and no torch."""
    for name in ("detector_node.py", "conversions.py"):
        tree = ast.parse((repo / "examples" / "ros2" / name).read_text())
        imported = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(str(node.module).split(".")[0])
        assert imported <= {
            "copy", "math", "time", "importlib", "pathlib", "numpy", "conversions", "rclpy",
            "sensor_msgs", "vision_msgs", "visualization_msgs",
        }  # fmt: skip
