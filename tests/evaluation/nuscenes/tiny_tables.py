"""A made-up nuScenes version of a few samples, in the official tables, for tests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

VERSION = "v1.0-mini"
SAMPLE_S = 0.5
# The LiDAR looks to the right of the vehicle, as in nuScenes; w, x, y, z.
SENSOR_ROTATION = [0.7071067811865476, 0.0, 0.0, -0.7071067811865476]
SENSOR_TRANSLATION = [0.9, 0.0, 1.8]
TABLES = (
    *("attribute", "calibrated_sensor", "category", "ego_pose", "instance", "log", "map"),
    *("sample", "sample_annotation", "sample_data", "scene", "sensor", "visibility"),
)


@dataclass
class TinyTables:
    """Tables that grow by scenes and objects, and are then written."""

    rows: dict[str, list[dict[str, Any]]] = field(
        default_factory=lambda: {name: [] for name in TABLES}
    )

    def __post_init__(self) -> None:
        self.add("visibility", token="4", level="v80-100", description="")
        self.add("log", token="log", logfile="", vehicle="", date_captured="", location="here")
        self.add("map", token="map", log_tokens=["log"], category="", filename="maps/none.png")
        for channel in ("LIDAR_TOP", "CAM_FRONT"):
            self.add("sensor", token=channel, channel=channel, modality="")
            self.add(
                "calibrated_sensor",
                token=f"calibrated-{channel}",
                sensor_token=channel,
                translation=SENSOR_TRANSLATION,
                rotation=SENSOR_ROTATION,
                camera_intrinsic=[],
            )

    def add(self, table: str, **row: Any) -> None:
        """Append a row."""
        self.rows[table].append(row)

    def add_scene(self, name: str, num_samples: int, ego_m: Sequence[float] = (100, 50)) -> None:
        """A scene whose vehicle drives along global x at 2 m/s from ``ego_m``."""
        tokens = [f"{name}-{number}" for number in range(num_samples)]
        self.add(
            "scene",
            token=name,
            name=name,
            log_token="log",
            nbr_samples=num_samples,
            first_sample_token=tokens[0],
            last_sample_token=tokens[-1],
            description="",
        )
        for number, token in enumerate(tokens):
            self._add_sample(name, token, number, neighbours(tokens, number), ego_m)

    def _add_sample(
        self, scene: str, token: str, number: int, links: dict[str, str], ego_m: Sequence[float]
    ) -> None:
        timestamp = int(1e6 * (1000 + SAMPLE_S * number))
        self.add("sample", token=token, timestamp=timestamp, scene_token=scene, **links)
        for channel in ("LIDAR_TOP", "CAM_FRONT"):
            self.add(
                "ego_pose",
                token=f"{channel}-{token}",
                timestamp=timestamp,
                translation=[ego_m[0] + 2 * SAMPLE_S * number, ego_m[1], 0.0],
                rotation=[1.0, 0.0, 0.0, 0.0],
            )
            self.add(
                "sample_data",
                token=f"{channel}-{token}",
                sample_token=token,
                ego_pose_token=f"{channel}-{token}",
                calibrated_sensor_token=f"calibrated-{channel}",
                timestamp=timestamp,
                fileformat="pcd",
                is_key_frame=True,
                height=0,
                width=0,
                filename=f"samples/{channel}/{token}.pcd.bin",
                **{key: f"{channel}-{value}" if value else "" for key, value in links.items()},
            )

    def add_object(
        self,
        category: str,
        samples: Sequence[str],
        places: Sequence[Sequence[float]],
        *,
        size: Sequence[float] = (2.0, 4.0, 1.5),
        yaw: float = 0.0,
        attribute: str = "",
        num_points: int = 5,
    ) -> None:
        """An object with a label at each of ``samples``, at global ``places`` (x, y, z)."""
        instance = f"instance-{len(self.rows['instance'])}"
        tokens = [f"{instance}-{sample}" for sample in samples]
        self._name("category", category)
        self.add(
            "instance",
            token=instance,
            category_token=category,
            nbr_annotations=len(tokens),
            first_annotation_token=tokens[0],
            last_annotation_token=tokens[-1],
        )
        if attribute:
            self._name("attribute", attribute)
        for number, (sample, place) in enumerate(zip(samples, places)):
            self.add(
                "sample_annotation",
                token=tokens[number],
                sample_token=sample,
                instance_token=instance,
                visibility_token="4",
                attribute_tokens=[attribute] if attribute else [],
                translation=list(place),
                size=list(size),
                rotation=[float(np.cos(yaw / 2)), 0.0, 0.0, float(np.sin(yaw / 2))],
                num_lidar_pts=num_points,
                num_radar_pts=0,
                **neighbours(tokens, number),
            )

    def _name(self, table: str, name: str) -> None:
        """A row of a table of names, once."""
        if all(row["token"] != name for row in self.rows[table]):
            self.add(table, token=name, name=name, description="")

    def write(self, root: Path) -> Path:
        """Write the tables into ``root/v1.0-mini``, and the map that the devkit looks for."""
        folder = root / VERSION
        folder.mkdir(parents=True)
        for name, rows in self.rows.items():
            (folder / f"{name}.json").write_text(json.dumps(rows))
        (root / "maps").mkdir()
        (root / "maps" / "none.png").touch()
        return root


def neighbours(tokens: Sequence[str], number: int) -> dict[str, str]:
    """``prev`` and ``next`` of an entry of a list; empty at the ends."""
    padded = ["", *tokens, ""]
    return {"prev": padded[number], "next": padded[number + 2]}


def tokens_of(scene: str, num_samples: int) -> list[str]:
    """The tokens of a scene's samples."""
    return [f"{scene}-{number}" for number in range(num_samples)]


def detections(token: str, names: Sequence[str], **columns: np.ndarray) -> Mapping[str, Any]:
    """Detections of one sample, as a detector's dataset describes them."""
    return {
        "frame_id": f"lidar-{token}",
        "metadata": {"token": token},
        "name": np.array(names, dtype=str),
        **columns,
    }
