"""A ROS 2 node that detects objects in a PointCloud2 with an exported model.

    python3 detector_node.py --ros-args -p folder:=/path/of/export -r points:=/velodyne_points

It needs numpy, onnxruntime, and of ROS 2: rclpy, sensor_msgs, vision_msgs, visualization_msgs.
"""

import importlib.util
import time
from pathlib import Path

import rclpy
from conversions import detections_of, markers_of, points_of
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import PointCloud2
from vision_msgs.msg import Detection3D, Detection3DArray, ObjectHypothesisWithPose
from visualization_msgs.msg import Marker, MarkerArray

# A cloud that arrives while the last one is worked on replaces the one that waits.
NEWEST_ONLY = QoSProfile(
    depth=1, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT
)
WARN_EVERY_S = 5.0


class Messages:
    """The classes of the messages that ``conversions`` makes."""

    Detection3D = Detection3D
    Detection3DArray = Detection3DArray
    ObjectHypothesisWithPose = ObjectHypothesisWithPose
    Marker = Marker
    MarkerArray = MarkerArray


def load_detect(folder):
    """The module detect.py of an exported folder."""
    spec = importlib.util.spec_from_file_location("detect", Path(folder) / "detect.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class DetectorNode(Node):
    """Subscribes to ``points``, publishes ``detections`` and ``markers``."""

    def __init__(self):
        super().__init__("detector")
        self.declare_parameter("folder", ".")
        self.declare_parameter("lowest_score", 0.3)
        self.declare_parameter("intensity_scale", 1.0)
        self.declare_parameter("threads", 0)
        folder = self.value("folder")
        self.detector = load_detect(folder).Detector(folder, threads=self.value("threads"))
        self.detections = self.create_publisher(Detection3DArray, "detections", 1)
        self.markers = self.create_publisher(MarkerArray, "markers", 1)
        self.create_subscription(PointCloud2, "points", self.receive, NEWEST_ONLY)
        self.get_logger().info(f"{folder}: reads {', '.join(self.detector.features)}")

    def value(self, name):
        """The value of a parameter."""
        return self.get_parameter(name).value

    def receive(self, cloud):
        """Detect in one cloud and publish what was found, with the time and frame of the cloud."""
        start = time.perf_counter()
        try:
            points = points_of(cloud, self.detector.features, self.value("intensity_scale"))
        except ValueError as error:
            self.get_logger().error(str(error), throttle_duration_sec=WARN_EVERY_S)
            return
        boxes, scores, names = self.detector(points)
        count = int((scores >= self.value("lowest_score")).sum())  # the best come first
        found = boxes[:count], scores[:count], names[:count]
        self.detections.publish(detections_of(Messages, cloud.header, *found))
        self.markers.publish(markers_of(Messages, cloud.header, *found))
        spent_ms = (time.perf_counter() - start) * 1000
        self.get_logger().info(
            f"{count} boxes of {len(points)} points in {spent_ms:.0f} ms",
            throttle_duration_sec=WARN_EVERY_S,
        )


def main():
    """Run the node until it is interrupted."""
    rclpy.init()
    node = DetectorNode()
    try:
        rclpy.spin(node)
    except KeyboardInterrupt:
        pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
