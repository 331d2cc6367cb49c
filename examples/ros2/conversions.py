"""From a PointCloud2 to points, and from boxes to messages: plain functions that need numpy alone.

The messages that are made come from ``messages``, an object with the classes Detection3D,
Detection3DArray, ObjectHypothesisWithPose, Marker and MarkerArray. So this file imports no ROS, and
its tests run anywhere.
"""

import copy
import math

import numpy as np

# sensor_msgs/PointField: the number of a datatype and how numpy writes it.
DATATYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
# Drivers have their own names for the strength of the echo.
OTHER_NAMES = {"intensity": ("i", "reflectivity", "reflectance", "remission", "signal")}
COLORS = {"Car": (0.16, 0.47, 0.84), "Pedestrian": (0.9, 0.36, 0.13), "Cyclist": (0.12, 0.62, 0.35)}
OTHER_COLOR = (0.6, 0.35, 0.8)
TEXT_HEIGHT_M = 0.6


def points_of(cloud, features, intensity_scale=1.0):
    """Points (N, C) float32 of a PointCloud2, without those that hold NaN or infinity.

    Args:
        cloud: organised or not, of any datatype, byte order and padding.
        features: names of the C columns that the model reads.
        intensity_scale: what intensities are multiplied by: 1 / 255 for a sensor of 0..255 and a
            model that learnt 0..1.

    Raises:
        ValueError: a column is missing, or the message contradicts itself.
    """
    table = table_of(cloud)
    columns = []
    for name in features:
        column = column_of(table, name).astype(np.float32)
        columns.append(column * np.float32(intensity_scale) if name == "intensity" else column)
    points = np.stack(columns, axis=1)
    return points[np.isfinite(points).all(axis=1)]


def table_of(cloud):
    """The points as a structured array (N,), row after row."""
    order = ">" if cloud.is_bigendian else "<"
    formats = []
    for field in cloud.fields:
        if field.datatype not in DATATYPES:
            raise ValueError(f"field {field.name} has the unknown datatype {field.datatype}")
        formats.append(order + DATATYPES[field.datatype])
    names = [field.name for field in cloud.fields]
    offsets = [field.offset for field in cloud.fields]
    layout = {"names": names, "formats": formats, "offsets": offsets}
    dtype = np.dtype({**layout, "itemsize": cloud.point_step})
    if cloud.height * cloud.width == 0:
        return np.zeros(0, dtype)
    data = np.frombuffer(cloud.data, np.uint8)
    row_bytes = cloud.width * cloud.point_step
    row_step = max(cloud.row_step, row_bytes)  # drivers leave it 0 in clouds of one row
    needed = (cloud.height - 1) * row_step + row_bytes
    if len(data) < needed:
        raise ValueError(f"the cloud holds {len(data)} bytes, expected {needed} for its size")
    shape = (cloud.height, cloud.width)
    return np.ndarray(shape, dtype, data, strides=(row_step, cloud.point_step)).reshape(-1)


def column_of(table, name):
    """One column (N,); the time lag of a single sweep is 0."""
    for other in (name, *OTHER_NAMES.get(name, ())):
        if other in table.dtype.names:
            return table[other]
    if name == "timestamp":
        return np.zeros(len(table))
    fields = ", ".join(table.dtype.names)
    raise ValueError(f"the cloud has the fields {fields}, the model also reads {name}")


def quaternion_of(heading_rad):
    """x, y, z, w of a turn around z, from x towards y."""
    return 0.0, 0.0, math.sin(heading_rad / 2), math.cos(heading_rad / 2)


def set_pose(pose, box):
    """Write centre and heading of a box (7 or more) into a geometry_msgs/Pose."""
    # rclpy takes Python's numbers only, not those of numpy.
    pose.position.x, pose.position.y, pose.position.z = (float(value) for value in box[:3])
    turn = quaternion_of(float(box[6]))
    pose.orientation.x, pose.orientation.y, pose.orientation.z, pose.orientation.w = turn


def detections_of(messages, header, boxes, scores, names):
    """A vision_msgs/Detection3DArray of boxes (M, 7 or 9), in the frame of ``header``."""
    array = messages.Detection3DArray()
    array.header = copy.deepcopy(header)
    for box, score, name in zip(boxes, scores, names):
        detection = messages.Detection3D()
        detection.header = copy.deepcopy(header)
        set_pose(detection.bbox.center, box)
        size = detection.bbox.size
        size.x, size.y, size.z = (float(value) for value in box[3:6])
        result = messages.ObjectHypothesisWithPose()
        result.hypothesis.class_id = str(name)
        result.hypothesis.score = float(score)
        set_pose(result.pose.pose, box)
        detection.results.append(result)
        array.detections.append(detection)
    return array


def markers_of(messages, header, boxes, scores, names):
    """A visualization_msgs/MarkerArray for RViz: a cuboid, an arrow and a text for each box.

    Its first marker removes those of the cloud before.
    """
    array = messages.MarkerArray()
    clear = messages.Marker()
    clear.header = copy.deepcopy(header)
    clear.action = clear.DELETEALL
    array.markers.append(clear)
    for number, (box, score, name) in enumerate(zip(boxes, scores, names)):
        length, width, height = (float(value) for value in box[3:6])
        color = COLORS.get(name, OTHER_COLOR)

        cuboid = new_marker(messages, header, "boxes", number, box, (*color, 0.4))
        cuboid.type = cuboid.CUBE
        cuboid.scale.x, cuboid.scale.y, cuboid.scale.z = length, width, height

        arrow = new_marker(messages, header, "headings", number, box, (*color, 1.0))
        arrow.type = arrow.ARROW
        arrow.scale.x, arrow.scale.y, arrow.scale.z = length / 2 + 1.0, 0.15, 0.15

        text = new_marker(messages, header, "names", number, box, (1.0, 1.0, 1.0, 1.0))
        text.type = text.TEXT_VIEW_FACING
        text.text = f"{name} {score:.2f}"
        text.pose.position.z += height / 2 + TEXT_HEIGHT_M
        text.scale.z = TEXT_HEIGHT_M
        array.markers += [cuboid, arrow, text]
    return array


def new_marker(messages, header, namespace, number, box, color):
    """A marker at the place of a box; ``color``: red, green, blue and opacity."""
    marker = messages.Marker()
    marker.header = copy.deepcopy(header)
    marker.ns = namespace
    marker.id = number
    marker.action = marker.ADD
    set_pose(marker.pose, box)
    marker.color.r, marker.color.g, marker.color.b, marker.color.a = color
    return marker
