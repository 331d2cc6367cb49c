"""The clouds of a ROS bag as files, one a frame, and the labels that name frames by their time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...datasets.custom.labels import FrameLabels
from ...datasets.readers import PointCloud, read_bag
from ...errors import DataError

PLACE = ("x", "y", "z")
SAME_MOMENT_S = 1e-3
FEWEST_NANOSECONDS = 1e14  # a larger number is a time in ns: as seconds it would be a million years


@dataclass(frozen=True)
class Recording:
    """The clouds of a recording.

    Attributes:
        clouds: file of each frame; frames are numbered in the order of the recording.
        stamps_s: (N,) time of each frame in seconds.
        num_empty: clouds without points, which were left out.
    """

    clouds: Mapping[str, Path]
    stamps_s: np.ndarray
    num_empty: int


def unpack_recording(bag: Path, topic: str | None, folder: Path) -> Recording:
    """Write every cloud of a bag into ``folder`` as a .pcd file."""
    clouds: dict[str, Path] = {}
    stamps_s = []
    num_empty = 0
    for stamp_s, cloud in read_bag(bag, topic):
        if len(cloud.points) == 0:
            num_empty += 1
            continue
        frame = f"{len(clouds):06d}"
        clouds[frame] = folder / f"{frame}.pcd"
        write_pcd(clouds[frame], cloud)
        stamps_s.append(stamp_s)
    if not clouds:
        raise DataError(f"{bag}: all of its clouds are without points")
    return Recording(clouds, np.array(stamps_s), num_empty)


def write_pcd(path: Path, cloud: PointCloud) -> None:
    """Write a cloud as binary PCD: float32, and doubles for the x, y, z of world coordinates."""
    place_type = "<f8" if any(cloud.offset) else "<f4"
    types = [place_type if name in PLACE else "<f4" for name in cloud.features]
    rows = np.zeros(len(cloud.points), dtype=list(zip(cloud.features, types)))
    for column, name in enumerate(cloud.features):
        rows[name] = cloud.points[:, column]
    for name, offset_m in zip(PLACE, cloud.offset):
        rows[name] += offset_m
    header = [
        "VERSION 0.7",
        f"FIELDS {' '.join(cloud.features)}",
        f"SIZE {' '.join(text[-1] for text in types)}",
        f"TYPE {' '.join('F' for _ in types)}",
        f"COUNT {' '.join('1' for _ in types)}",
        f"WIDTH {len(rows)}",
        "HEIGHT 1",
        "VIEWPOINT 0 0 0 1 0 0 0",
        f"POINTS {len(rows)}",
        "DATA binary",
        "",
    ]
    path.write_bytes("\n".join(header).encode() + rows.tobytes())


def labels_by_frame(
    labels: Mapping[str, FrameLabels], recording: Recording
) -> dict[str, FrameLabels]:
    """Labels that name frames by their times in s or ns, under the frames' numbers.

    Names that are no such time stay as they are.
    """
    named = {}
    for name, entry in labels.items():
        named[_frame_of_time(name, recording) or name] = entry
    return named


def _frame_of_time(name: str, recording: Recording) -> str | None:
    try:
        time_s = float(name)
    except ValueError:
        return None
    if time_s >= FEWEST_NANOSECONDS:
        time_s *= 1e-9
    gaps_s = np.abs(recording.stamps_s - time_s)
    nearest = int(gaps_s.argmin())
    return list(recording.clouds)[nearest] if gaps_s[nearest] < SAME_MOMENT_S else None
