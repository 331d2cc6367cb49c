"""Info dicts of key frames, with the keys and values that OpenPCDet writes.

An info has the paths of its point files, the sweeps before the key frame with the matrix that
brings their points into the key frame's coordinates, and the labelled boxes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...errors import DataError
from ...evaluation.nuscenes.tables import Tables
from .labels import Labels
from .poses import inwards, outwards

LIDAR = "LIDAR_TOP"
FRONT_CAMERA = "CAM_FRONT"
CAMERAS = (
    "CAM_FRONT",
    "CAM_FRONT_RIGHT",
    "CAM_FRONT_LEFT",
    "CAM_BACK",
    "CAM_BACK_LEFT",
    "CAM_BACK_RIGHT",
)
SECONDS = 1e-6  # of the tables' microseconds
Row = Mapping[str, Any]
Info = dict[str, Any]


class InfoMaker:
    """Makes the infos of one version.

    Args:
        tables: the official tables.
        max_sweeps: sweeps of a frame, the key frame included.
        with_cam: describe all cameras too.
        labelled: whether the version has annotations.
    """

    def __init__(
        self, tables: Tables, max_sweeps: int, *, with_cam: bool = False, labelled: bool = True
    ) -> None:
        self.tables = tables
        self.max_sweeps = max_sweeps
        self.with_cam = with_cam
        self.labels = Labels(tables) if labelled else None
        self._channel_of: dict[str, str] = {}
        for token, row in tables.by_token("calibrated_sensor").items():
            self._channel_of[token] = tables.row("sensor", row["sensor_token"])["channel"]
        self._keep_what_is_read()
        self._key_frames: dict[tuple[str, str], Row] = {}
        for row in tables.by_token("sample_data").values():
            if row["is_key_frame"]:
                self._key_frames[row["sample_token"], self._channel(row)] = row

    def _channel(self, frame: Row) -> str:
        return self._channel_of.get(frame["calibrated_sensor_token"], "")

    def _keep_what_is_read(self) -> None:
        """Leave out of the largest tables what belongs to radars, or to cameras between samples."""
        cameras = CAMERAS if self.with_cam else (FRONT_CAMERA,)
        poses: set[str] = set()

        def is_read(frame: Row) -> bool:
            channel = self._channel(frame)
            keeps = channel == LIDAR or (channel in cameras and frame["is_key_frame"])
            if keeps:
                poses.add(frame["ego_pose_token"])
            return keeps

        self.tables.keep("sample_data", is_read)
        # It is asked for after sample_data has been read, so all poses are known by then.
        self.tables.keep("ego_pose", lambda pose: pose["token"] in poses)

    def lidar_path(self, sample: str) -> str:
        """The point file of a sample's key frame."""
        return self._key_frame(sample)["filename"]

    def _key_frame(self, sample: str) -> Row:
        row = self._key_frames.get((sample, LIDAR))
        if row is None:
            raise DataError(
                f"{self.tables.path('sample_data')}: the sample {sample} has no key frame of "
                f"{LIDAR}"
            )
        return row

    def info(self, sample: str) -> Info:
        """The info of a sample, by its token."""
        try:
            return self._info(sample)
        except (TypeError, ValueError, OverflowError, np.linalg.LinAlgError) as error:
            raise DataError(
                f"{self.tables.folder}: the rows of sample {sample} hold what is no number, or too "
                f"few numbers ({error})"
            ) from None

    def _info(self, sample: str) -> Info:
        key_frame = self._key_frame(sample)
        sensor, ego = self._poses(key_frame)
        ref_from_car = inwards(sensor)
        car_from_global = inwards(ego)
        time_s = SECONDS * key_frame["timestamp"]
        info: Info = {
            "lidar_path": key_frame["filename"],
            **self._front_camera(sample),
            "token": sample,
            "sweeps": self._sweeps(key_frame, ref_from_car @ car_from_global, time_s),
            "ref_from_car": ref_from_car,
            "car_from_global": car_from_global,
            "timestamp": time_s,
        }
        if self.with_cam:
            info["cams"] = self._cameras(sample, ref_from_car @ car_from_global)
        if self.labels is not None:
            info.update(self.labels.of_sample(sample, ref_from_car @ car_from_global))
        return info

    def _poses(self, frame: Row) -> tuple[Row, Row]:
        """The rows that say where a sensor was on the vehicle, and the vehicle in the world."""
        sensor = self.tables.row("calibrated_sensor", frame["calibrated_sensor_token"])
        return sensor, self.tables.row("ego_pose", frame["ego_pose_token"])

    def _sweeps(self, key_frame: Row, ref_from_global: np.ndarray, time_s: float) -> list[Info]:
        """The ``max_sweeps - 1`` sweeps before the key frame, newest first.

        At the start of a scene there are fewer. Then the oldest one is repeated, as in OpenPCDet;
        without any, the key frame stands in for all.
        """
        sweeps: list[Info] = []
        row = key_frame
        while len(sweeps) < self.max_sweeps - 1:
            if row["prev"] != "":
                row = self.tables.row("sample_data", row["prev"])
                sweeps.append(self._sweep(row, ref_from_global, time_s))
                continue
            sweeps.append(sweeps[-1] if sweeps else _key_frame_again(key_frame))
        return sweeps

    def _sweep(self, row: Row, ref_from_global: np.ndarray, time_s: float) -> Info:
        sensor, ego = self._poses(row)
        global_from_car = outwards(ego)
        car_from_current = outwards(sensor)
        return {
            "lidar_path": row["filename"],
            "sample_data_token": row["token"],
            "transform_matrix": ref_from_global @ global_from_car @ car_from_current,
            "global_from_car": global_from_car,
            "car_from_current": car_from_current,
            "time_lag": time_s - SECONDS * row["timestamp"],
        }

    def _front_camera(self, sample: str) -> Info:
        """Image and intrinsics of the front camera; nothing for a data set without one."""
        frame = self._key_frames.get((sample, FRONT_CAMERA))
        if frame is None:
            return {}
        sensor, _ = self._poses(frame)
        intrinsic = np.array(sensor["camera_intrinsic"], dtype=np.float64)
        return {"cam_front_path": frame["filename"], "cam_intrinsic": intrinsic}

    def _cameras(self, sample: str, ref_from_global: np.ndarray) -> dict[str, Info]:
        """Every camera of a sample: its image, and where it was."""
        cameras = {}
        for name in CAMERAS:
            frame = self._key_frames.get((sample, name))
            if frame is not None:
                cameras[name] = self._camera(name, frame, ref_from_global)
        return cameras

    def _camera(self, name: str, frame: Row, ref_from_global: np.ndarray) -> Info:
        sensor, ego = self._poses(frame)
        lidar_from_camera = ref_from_global @ outwards(ego) @ outwards(sensor)
        return {
            "data_path": frame["filename"],
            "type": name,
            "sample_data_token": frame["token"],
            "sensor2ego_translation": sensor["translation"],
            "sensor2ego_rotation": sensor["rotation"],
            "ego2global_translation": ego["translation"],
            "ego2global_rotation": ego["rotation"],
            "timestamp": frame["timestamp"],
            "sensor2lidar_rotation": lidar_from_camera[:3, :3],
            "sensor2lidar_translation": lidar_from_camera[:3, 3],
            "camera_intrinsics": np.array(sensor["camera_intrinsic"], dtype=np.float64),
        }


def _key_frame_again(key_frame: Row) -> Info:
    """The key frame in the place of a sweep, where no sweep came before it."""
    return {
        "lidar_path": key_frame["filename"],
        "sample_data_token": key_frame["token"],
        "transform_matrix": None,
        "time_lag": 0,
    }
