"""The rows of nuScenes' official tables for simulated scenes.

Tokens are hashes of what they name, so a scene gets the same ones whenever it is simulated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..streams import Streams
from .drive import Drive, Sighting, SweepTime
from .kinds import ATTRIBUTES, CATEGORIES
from .turn import SENSOR_TRANSLATION_M, SENSOR_YAW_RAD

Rows = dict[str, list[dict[str, Any]]]
LIDAR, CAMERA = "LIDAR_TOP", "CAM_FRONT"
# Tables whose rows are the same for all scenes, and those that each scene adds to.
SHARED_TABLES = ("attribute", "calibrated_sensor", "category", "log", "map", "sensor", "visibility")
SCENE_TABLES = ("ego_pose", "instance", "sample", "sample_annotation", "sample_data", "scene")
TABLES = tuple(sorted((*SHARED_TABLES, *SCENE_TABLES)))
MAP_FILE = "maps/simulated.png"
START_US = 1_600_000_000_000_000
SCENE_GAP_US = 100_000_000  # scenes follow each other at this distance
VISIBILITIES = ("v0-40", "v40-60", "v60-80", "v80-100")
# A camera that looks ahead, as nuScenes' CAM_FRONT; there are no images.
CAMERA_TRANSLATION_M = (1.7, 0.0, 1.5)
CAMERA_ROTATION = (0.5, -0.5, 0.5, -0.5)
CAMERA_INTRINSIC = [[1266.4, 0.0, 816.3], [0.0, 1266.4, 491.5], [0.0, 0.0, 1.0]]
IMAGE_SIZE = (900, 1600)  # height, width


def token(*parts: object) -> str:
    """A token of 32 hexadecimal digits."""
    text = "/".join(str(part) for part in parts)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def around_z(angle_rad: float) -> list[float]:
    """A rotation around z as w, x, y, z."""
    return [float(np.cos(angle_rad / 2)), 0.0, 0.0, float(np.sin(angle_rad / 2))]


def shared_rows() -> Rows:
    """The tables that are the same for all scenes."""
    lidar: dict[str, Any] = {
        "translation": list(SENSOR_TRANSLATION_M),
        "rotation": around_z(SENSOR_YAW_RAD),
        "camera_intrinsic": [],
    }
    camera: dict[str, Any] = {
        "translation": list(CAMERA_TRANSLATION_M),
        "rotation": list(CAMERA_ROTATION),
        "camera_intrinsic": CAMERA_INTRINSIC,
    }
    mounts = {LIDAR: lidar, CAMERA: camera}
    modality = {LIDAR: "lidar", CAMERA: "camera"}
    return {
        "attribute": [_named("attribute", name) for name in ATTRIBUTES],
        "category": [_named("category", name) for name in CATEGORIES],
        "visibility": [
            {"token": str(number), "level": level, "description": ""}
            for number, level in enumerate(VISIBILITIES, start=1)
        ],
        "sensor": [
            {"token": token("sensor", channel), "channel": channel, "modality": modality[channel]}
            for channel in mounts
        ],
        "calibrated_sensor": [
            {"token": _mount(channel), "sensor_token": token("sensor", channel), **mount}
            for channel, mount in mounts.items()
        ],
        "log": [
            {
                "token": token("log"),
                "logfile": "simulated",
                "vehicle": "simulated",
                "date_captured": "2020-09-13",
                "location": "simulated",
            }
        ],
        "map": [
            {
                "token": token("map"),
                "log_tokens": [token("log")],
                "category": "semantic_prior",
                "filename": MAP_FILE,
            }
        ],
    }


def _named(table: str, name: str) -> dict[str, Any]:
    return {"token": token(table, name), "name": name, "description": ""}


def _mount(channel: str) -> str:
    return token("calibrated_sensor", channel)


def cloud_name(scene: str, sweep: SweepTime, timestamp: int) -> str:
    """The file of a sweep, relative to the folder of the version."""
    folder = "samples" if sweep.is_key_frame else "sweeps"
    return f"{folder}/{LIDAR}/{scene}__{LIDAR}__{timestamp}.pcd.bin"


class SceneRows:
    """The rows that one scene adds.

    Args:
        name: of the scene.
        number: of the scene, which places it in time.
        streams: draw where it lies in the world.
    """

    def __init__(self, name: str, number: int, streams: Streams) -> None:
        self.name = name
        self.start_us = START_US + number * SCENE_GAP_US
        rng = streams.of("world")
        self.origin_m = rng.uniform(500.0, 1500.0, 2)
        self.yaw_rad = float(rng.uniform(-np.pi, np.pi))

    def timestamp(self, time_s: float) -> int:
        """Microseconds of a time of the scene."""
        return self.start_us + round(1e6 * time_s)

    def rows(self, drive: Drive) -> Rows:
        """All rows of the scene."""
        key_times = [sweep.time_s for sweep in drive.sweeps if sweep.is_key_frame]
        rows: Rows = {
            "scene": [self._scene(len(key_times))],
            "sample": self._samples(key_times),
            "ego_pose": [],
            "sample_data": [],
            "instance": [],
            "sample_annotation": [],
        }
        self._add_sweeps(rows, drive)
        self._add_images(rows, drive)
        self._add_labels(rows, drive)
        return rows

    def _token(self, table: str, *parts: object) -> str:
        return token(table, self.name, *parts)

    def _scene(self, num_samples: int) -> dict[str, Any]:
        return {
            "token": self._token("scene"),
            "log_token": token("log"),
            "nbr_samples": num_samples,
            "first_sample_token": self._token("sample", 0),
            "last_sample_token": self._token("sample", num_samples - 1),
            "name": self.name,
            "description": "Simulated street",
        }

    def _samples(self, times_s: Sequence[float]) -> list[dict[str, Any]]:
        tokens = [self._token("sample", number) for number in range(len(times_s))]
        return [
            {
                "token": tokens[number],
                "timestamp": self.timestamp(time_s),
                **links(tokens, number),
                "scene_token": self._token("scene"),
            }
            for number, time_s in enumerate(times_s)
        ]

    def _add_sweeps(self, rows: Rows, drive: Drive) -> None:
        tokens = [self._token("sample_data", LIDAR, n) for n in range(len(drive.sweeps))]
        for number, (sweep, pose) in enumerate(zip(drive.sweeps, drive.ego_poses)):
            timestamp = self.timestamp(sweep.time_s)
            self._add_record(
                rows,
                LIDAR,
                sweep,
                pose,
                {
                    "token": tokens[number],
                    "fileformat": "pcd",
                    "is_key_frame": sweep.is_key_frame,
                    "height": 0,
                    "width": 0,
                    "filename": cloud_name(self.name, sweep, timestamp),
                    **links(tokens, number),
                },
            )

    def _add_images(self, rows: Rows, drive: Drive) -> None:
        """Rows of the front camera, which OpenPCDet's infos name; there are no files."""
        chosen = [number for number, sweep in enumerate(drive.sweeps) if sweep.is_key_frame]
        tokens = [self._token("sample_data", CAMERA, n) for n in range(len(chosen))]
        for order, number in enumerate(chosen):
            sweep = drive.sweeps[number]
            timestamp = self.timestamp(sweep.time_s)
            height, width = IMAGE_SIZE
            self._add_record(
                rows,
                CAMERA,
                sweep,
                drive.ego_poses[number],
                {
                    "token": tokens[order],
                    "fileformat": "jpg",
                    "is_key_frame": True,
                    "height": height,
                    "width": width,
                    "filename": f"samples/{CAMERA}/{self.name}__{CAMERA}__{timestamp}.jpg",
                    **links(tokens, order),
                },
            )

    def _add_record(
        self,
        rows: Rows,
        channel: str,
        sweep: SweepTime,
        pose: np.ndarray,
        record: dict[str, Any],
    ) -> None:
        """A row of sample_data, and one of ego_pose that belongs to it alone, as in nuScenes."""
        timestamp = self.timestamp(sweep.time_s)
        pose_token = token("ego_pose", record["token"])
        x, y, z, yaw = pose
        rows["ego_pose"].append(
            {
                "token": pose_token,
                "timestamp": timestamp,
                "rotation": around_z(yaw + self.yaw_rad),
                "translation": self._in_world(x, y, z),
            }
        )
        rows["sample_data"].append(
            {
                "sample_token": self._token("sample", sweep.key_frame),
                "ego_pose_token": pose_token,
                "calibrated_sensor_token": _mount(channel),
                "timestamp": timestamp,
                **record,
            }
        )

    def _in_world(self, x: float, y: float, z: float) -> list[float]:
        """A place of the street in the world."""
        cos, sin = np.cos(self.yaw_rad), np.sin(self.yaw_rad)
        return [
            float(self.origin_m[0] + cos * x - sin * y),
            float(self.origin_m[1] + sin * x + cos * y),
            float(z),
        ]

    def _add_labels(self, rows: Rows, drive: Drive) -> None:
        by_actor: dict[int, list[Sighting]] = {}
        for sighting in drive.sightings:
            by_actor.setdefault(sighting.actor, []).append(sighting)
        for number, sightings in by_actor.items():
            actor = drive.plan.actors[number]
            instance = self._token("instance", number)
            tokens = [self._token("annotation", number, seen.key_frame) for seen in sightings]
            rows["instance"].append(
                {
                    "token": instance,
                    "category_token": token("category", actor.category),
                    "nbr_annotations": len(tokens),
                    "first_annotation_token": tokens[0],
                    "last_annotation_token": tokens[-1],
                }
            )
            length, width, height = actor.size_m
            attributes = [token("attribute", actor.attribute)] if actor.attribute else []
            for order, seen in enumerate(sightings):
                x, y, z, yaw = seen.pose
                rows["sample_annotation"].append(
                    {
                        "token": tokens[order],
                        "sample_token": self._token("sample", seen.key_frame),
                        "instance_token": instance,
                        "visibility_token": str(seen.visibility),
                        "attribute_tokens": attributes,
                        "translation": self._in_world(x, y, z + height / 2),
                        "size": [width, length, height],
                        "rotation": around_z(yaw + self.yaw_rad),
                        **links(tokens, order),
                        "num_lidar_pts": seen.num_points,
                        "num_radar_pts": 0,
                    }
                )


def links(tokens: Sequence[str], number: int) -> dict[str, str]:
    """``prev`` and ``next`` of an entry; empty at the ends."""
    return {
        "prev": tokens[number - 1] if number else "",
        "next": tokens[number + 1] if number + 1 < len(tokens) else "",
    }
