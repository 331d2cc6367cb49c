"""The ROS 2 example's node, with modules that stand in for those of ROS."""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from test_ros2_conversions import FakeMessages, Header, make_cloud, whole_points

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from runtime_folders import write_folder  # noqa: E402

BOXES = np.float32([[10, -2, -1, 4, 2, 1.5, 0.5], [30, 3, 0, 0.6, 0.7, 1.8, -3]])
SCORES = np.float32([[0.2, 0, 0], [0, 0, 0.8]])


class FakeNode:
    """rclpy's Node, as far as the example uses it."""

    parameters: dict[str, object] = {}

    def __init__(self, name: str) -> None:
        self.name = name
        self.declared: dict[str, object] = {}
        self.published: dict[str, list[object]] = {}
        self.subscribed: list[str] = []
        self.errors: list[str] = []

    def declare_parameter(self, name: str, default: object) -> None:
        self.declared[name] = self.parameters.get(name, default)

    def get_parameter(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(value=self.declared[name])

    def create_publisher(self, kind: type, topic: str, depth: int) -> SimpleNamespace:
        return SimpleNamespace(publish=self.published.setdefault(topic, []).append)

    def create_subscription(self, kind: type, topic: str, receive, quality: object) -> None:
        self.subscribed.append(topic)

    def get_logger(self) -> SimpleNamespace:
        def error(text: str, throttle_duration_sec: float) -> None:
            self.errors.append(text)

        return SimpleNamespace(info=lambda text, **options: None, error=error)


@pytest.fixture
def node_module(repo: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """detector_node.py, imported where ROS seems to be installed."""
    members = {
        "rclpy": {},
        "rclpy.node": {"Node": FakeNode},
        "rclpy.qos": {
            "QoSProfile": SimpleNamespace,
            "HistoryPolicy": SimpleNamespace(KEEP_LAST=1),
            "ReliabilityPolicy": SimpleNamespace(BEST_EFFORT=2),
        },
        "sensor_msgs.msg": {"PointCloud2": object},
        "vision_msgs.msg": {
            name: getattr(FakeMessages, name)
            for name in ("Detection3D", "Detection3DArray", "ObjectHypothesisWithPose")
        },
        "visualization_msgs.msg": {
            name: getattr(FakeMessages, name) for name in ("Marker", "MarkerArray")
        },
    }
    for name, values in members.items():
        module = ModuleType(name)
        vars(module).update(values)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.syspath_prepend(str(repo / "examples" / "ros2"))
    monkeypatch.delitem(sys.modules, "detector_node", raising=False)
    monkeypatch.delitem(sys.modules, "conversions", raising=False)
    yield importlib.import_module("detector_node")
    sys.modules.pop("detector_node", None)
    sys.modules.pop("conversions", None)


@pytest.fixture
def folder(repo: Path, tmp_path: Path) -> Path:
    """An exported folder whose network finds two boxes."""
    write_folder(tmp_path, {"boxes": BOXES, "scores": SCORES})
    shutil.copy(repo / "pcdet_distill" / "export" / "assets" / "detect.py", tmp_path)
    return tmp_path


def test_a_cloud_becomes_detections(
    node_module: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeNode, "parameters", {"folder": str(folder), "threads": 1})
    node = node_module.DetectorNode()
    assert node.subscribed == ["points"]
    cloud = make_cloud(whole_points(), ["f4"] * 4)
    cloud.header = Header(3, "lidar")
    node.receive(cloud)
    (detections,) = node.published["detections"]
    (markers,) = node.published["markers"]
    (detection,) = detections.detections  # the other score is below lowest_score
    assert detection.results[0].hypothesis.class_id == "Cyclist"
    assert detections.header == cloud.header
    assert len(markers.markers) == 4
    assert node.errors == []


def test_a_cloud_without_intensity_is_an_error_and_the_node_lives(
    node_module: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeNode, "parameters", {"folder": str(folder), "threads": 1})
    node = node_module.DetectorNode()
    cloud = make_cloud(whole_points()[:, :3], ["f4"] * 3, names=["x", "y", "z"])
    cloud.header = Header(3, "lidar")
    node.receive(cloud)
    assert node.errors == ["the cloud has the fields x, y, z, the model also reads intensity"]
    assert node.published["detections"] == []
