"""A made-up nuScenes version of a few scenes, small enough to know every number of it.

The vehicle drives along global x and turns slowly. Its LiDAR looks to the right of it, as in
nuScenes. Every object is full of points in every sweep, wherever it is at that time. So points and
boxes must agree in any coordinates.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pcdet_distill.datasets.nuscenes.create import create_nuscenes_infos
from pcdet_distill.datasets.nuscenes.folder import NuScenesFolder

VERSION = "v1.0-mini"
START_US = 1_500_000_000_000_000
SWEEP_US = 50_000
SWEEPS_PER_SAMPLE = 4  # a key frame every 0.2 s
SPEED_MS = 5.0
TURN_RADS = 0.1
HALF_TURN = float(np.sqrt(0.5))
SENSOR_ROTATION = [HALF_TURN, 0.0, 0.0, -HALF_TURN]  # quaternion w, x, y, z
SENSOR_TRANSLATION = [0.9, 0.0, 1.8]
CAR_POINT = [0.5, 0.5, -1.0, 9.0, 0.0]  # of the vehicle itself, in the LiDAR's coordinates
GROUND_POINTS = 60
OBJECT_POINTS = 20
SIZES = {  # width, length, height
    "vehicle.car": (2.0, 4.4, 1.6),
    "vehicle.truck": (2.5, 7.0, 3.0),
    "human.pedestrian.adult": (0.7, 0.8, 1.8),
    "movable_object.barrier": (2.5, 0.5, 1.0),
    "animal": (0.4, 0.6, 0.5),
}
TABLES = (
    *("attribute", "calibrated_sensor", "category", "ego_pose", "instance", "log", "map"),
    *("sample", "sample_annotation", "sample_data", "scene", "sensor", "visibility"),
)


@dataclass(frozen=True)
class Thing:
    """An object of a scene; places are metres ahead and to the left of where the vehicle starts.

    Attributes:
        category: nuScenes' name.
        place: at the start of the scene.
        velocity: along global x and y in m/s.
        samples: numbers of the key frames in which it is labelled; None for all.
        lidar_points: what its labels say.
        radar_points: what its labels say.
    """

    category: str
    place: tuple[float, float]
    velocity: tuple[float, float] = (0.0, 0.0)
    samples: tuple[int, ...] | None = None
    lidar_points: int = OBJECT_POINTS
    radar_points: int = 0

    def at(self, seconds: float, start: np.ndarray) -> np.ndarray:
        """(3,) centre in the world."""
        x = start[0] + self.place[0] + self.velocity[0] * seconds
        y = start[1] + self.place[1] + self.velocity[1] * seconds
        return np.array([x, y, SIZES[self.category][2] / 2])

    @property
    def yaw(self) -> float:
        """Heading in the world."""
        return float(np.arctan2(self.velocity[1], self.velocity[0]))


def turn(yaw: float) -> np.ndarray:
    """(3, 3) rotation around z."""
    cosine = np.cos(yaw)
    sine = np.sin(yaw)
    return np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])


def around_z(yaw: float) -> list[float]:
    """The quaternion of ``turn``."""
    return [float(np.cos(yaw / 2)), 0.0, 0.0, float(np.sin(yaw / 2))]


class TinyNuScenes:
    """Writes scenes as official tables and point files.

    Args:
        data_path: DATA_PATH.
        version: name of the tables.
    """

    def __init__(self, data_path: Path, version: str = VERSION) -> None:
        self.data_path = data_path
        self.version = version
        self.root = data_path / version
        self.tables: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
        self._add("visibility", token="4", level="v80-100", description="")
        self._add("log", token="log", logfile="", vehicle="", date_captured="", location="here")
        self._add("map", token="map", log_tokens=["log"], category="", filename="maps/none.png")
        for channel in ("LIDAR_TOP", "CAM_FRONT", "RADAR_FRONT"):
            self._add("sensor", token=channel, channel=channel, modality="")
            is_camera = channel == "CAM_FRONT"
            self._add(
                "calibrated_sensor",
                token=f"calibrated-{channel}",
                sensor_token=channel,
                translation=SENSOR_TRANSLATION,
                rotation=SENSOR_ROTATION,
                camera_intrinsic=[[1200.0, 0, 800], [0, 1200.0, 450], [0, 0, 1]] * is_camera,
            )

    def _add(self, table: str, **row: Any) -> None:
        self.tables[table].append(row)

    def table_file(self, name: str) -> Path:
        """The file of a table."""
        return self.root / self.version / f"{name}.json"

    def scene(
        self, name: str, things: Sequence[Thing], num_samples: int = 3, sweeps_before: int = 2
    ) -> None:
        """Add a scene: ``sweeps_before`` sweeps come before its first key frame."""
        samples = [f"{name}-{number}" for number in range(num_samples)]
        self._add(
            "scene",
            token=name,
            name=name,
            log_token="log",
            nbr_samples=num_samples,
            first_sample_token=samples[0],
            last_sample_token=samples[-1],
            description="",
        )
        number_of_scene = len(self.tables["scene"])
        start = np.array([100.0 * number_of_scene, 50.0, 0.0])
        num_frames = sweeps_before + (num_samples - 1) * SWEEPS_PER_SAMPLE + 1
        for frame in range(num_frames):
            since_first = frame - sweeps_before
            is_key = since_first >= 0 and since_first % SWEEPS_PER_SAMPLE == 0
            sample = samples[max(0, -(-since_first // SWEEPS_PER_SAMPLE))]
            self._add_frame(name, frame, num_frames, sample, is_key, start, things)
            if is_key:
                timestamp = self.tables["sample_data"][-1]["timestamp"]
                links = _neighbours(samples, samples.index(sample))
                self._add("sample", token=sample, timestamp=timestamp, scene_token=name, **links)
        for thing in things:
            self._add_labels(name, samples, thing, start, sweeps_before)

    def _add_frame(
        self,
        scene: str,
        frame: int,
        num_frames: int,
        sample: str,
        is_key: bool,
        start: np.ndarray,
        things: Sequence[Thing],
    ) -> None:
        """A sweep of the LiDAR, and at a key frame an image of the camera; the LiDAR's is last."""
        number_of_scene = len(self.tables["scene"])
        timestamp = START_US + number_of_scene * 10_000_000 + frame * SWEEP_US
        seconds = frame * SWEEP_US * 1e-6
        ego = start + [SPEED_MS * seconds, 0.0, 0.0]
        yaw = TURN_RADS * seconds
        names = [f"{scene}-frame{number}" for number in range(num_frames)]
        links = _neighbours(names, frame)
        channels = ("CAM_FRONT", "RADAR_FRONT", "LIDAR_TOP") if is_key else ("LIDAR_TOP",)
        for channel in channels:
            token = f"{channel}-{names[frame]}"
            kind = "samples" if is_key else "sweeps"
            self._add(
                "ego_pose",
                token=token,
                timestamp=timestamp,
                translation=ego.tolist(),
                rotation=around_z(yaw),
            )
            is_lidar = channel == "LIDAR_TOP"
            self._add(
                "sample_data",
                token=token,
                sample_token=sample,
                ego_pose_token=token,
                calibrated_sensor_token=f"calibrated-{channel}",
                timestamp=timestamp,
                fileformat="pcd",
                is_key_frame=is_key,
                height=0,
                width=0,
                filename=f"{kind}/{channel}/{names[frame]}.pcd.bin",
                **{
                    key: f"{channel}-{name}" if name and is_lidar else ""
                    for key, name in links.items()
                },
            )
        path = self.root / self.tables["sample_data"][-1]["filename"]
        path.parent.mkdir(parents=True, exist_ok=True)
        points = self._points(frame, seconds, ego, yaw, start, things)
        path.write_bytes(points.astype(np.float32).tobytes())

    @staticmethod
    def _points(
        frame: int,
        seconds: float,
        ego: np.ndarray,
        yaw: float,
        start: np.ndarray,
        things: Sequence[Thing],
    ) -> np.ndarray:
        """(N, 5) the ground, the objects, and one point of the vehicle, as the LiDAR sees them."""
        random = np.random.RandomState(frame)
        ground = random.uniform(-20, 20, (GROUND_POINTS, 2))
        clouds = [np.column_stack([ground + ego[:2], np.zeros(GROUND_POINTS)])]
        for thing in things:
            width, length, height = SIZES[thing.category]
            local = random.uniform(-0.4, 0.4, (OBJECT_POINTS, 3)) * [length, width, height]
            clouds.append(local @ turn(thing.yaw).T + thing.at(seconds, start))
        world = np.concatenate(clouds)
        in_car = (world - ego) @ turn(yaw)
        in_lidar = (in_car - SENSOR_TRANSLATION) @ turn(-np.pi / 2)
        intensity = random.randint(0, 256, len(world))
        ring = np.full(len(world), 7.0)
        return np.concatenate([np.column_stack([in_lidar, intensity, ring]), [CAR_POINT]])

    def _add_labels(
        self,
        scene: str,
        samples: Sequence[str],
        thing: Thing,
        start: np.ndarray,
        sweeps_before: int,
    ) -> None:
        """The labels of an object, one a key frame."""
        numbers = range(len(samples)) if thing.samples is None else thing.samples
        instance = f"{scene}-instance{len(self.tables['instance'])}"
        tokens = [f"{instance}-{number}" for number in numbers]
        if all(row["token"] != thing.category for row in self.tables["category"]):
            self._add("category", token=thing.category, name=thing.category, description="")
        self._add(
            "instance",
            token=instance,
            category_token=thing.category,
            nbr_annotations=len(tokens),
            first_annotation_token=tokens[0],
            last_annotation_token=tokens[-1],
        )
        for place, number in enumerate(numbers):
            seconds = (sweeps_before + number * SWEEPS_PER_SAMPLE) * SWEEP_US * 1e-6
            self._add(
                "sample_annotation",
                token=tokens[place],
                sample_token=samples[number],
                instance_token=instance,
                visibility_token="4",
                attribute_tokens=[],
                translation=thing.at(seconds, start).tolist(),
                size=list(SIZES[thing.category]),
                rotation=around_z(thing.yaw),
                num_lidar_pts=thing.lidar_points,
                num_radar_pts=thing.radar_points,
                **_neighbours(tokens, place),
            )

    def write(self) -> None:
        """Write the tables, and the map that nuscenes-devkit looks for."""
        for name, rows in self.tables.items():
            file = self.table_file(name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(rows))
        maps = self.root / "maps"
        maps.mkdir(exist_ok=True)
        (maps / "none.png").touch()


def _neighbours(tokens: Sequence[str], number: int) -> dict[str, str]:
    """``prev`` and ``next`` of an entry of a list; empty at the ends."""
    padded = ["", *tokens, ""]
    return {"prev": padded[number], "next": padded[number + 2]}


TRAFFIC = (
    Thing("vehicle.car", (12.0, 3.0), (8.0, 0.0)),
    Thing("human.pedestrian.adult", (6.0, -5.0), (0.0, 1.5)),
    Thing("movable_object.barrier", (-9.0, 6.0)),
    Thing("animal", (5.0, 8.0)),
)
TRUCK = Thing("vehicle.truck", (-12.0, -6.0), (-4.0, 3.0))
RADAR_ONLY = Thing("vehicle.car", (15.0, -8.0), lidar_points=0, radar_points=2)
UNSEEN = Thing("vehicle.car", (18.0, 8.0), lidar_points=0)
ONCE = Thing("vehicle.car", (-15.0, 9.0), (2.0, 0.0), samples=(1,))
CLASSES = ["car", "truck", "pedestrian", "barrier"]
TRAIN_SCENES = ("scene-0061", "scene-0553")
VAL_SCENES = ("scene-0103",)


def fill(tiny: TinyNuScenes) -> None:
    """Two scenes to train on and one to validate on; the truck comes in one scene alone."""
    tiny.scene(TRAIN_SCENES[0], [*TRAFFIC, RADAR_ONLY, UNSEEN, ONCE])
    tiny.scene(TRAIN_SCENES[1], [*TRAFFIC, TRUCK], num_samples=2, sweeps_before=0)
    tiny.scene(VAL_SCENES[0], [*TRAFFIC, TRUCK], num_samples=2)
    tiny.write()


MAX_SWEEPS = 4
DATA_CONFIG = {
    "DATASET": "NuScenesDataset",
    "DATA_PATH": "",
    "VERSION": VERSION,
    "MAX_SWEEPS": MAX_SWEEPS,
    "PRED_VELOCITY": True,
    "SET_NAN_VELOCITY_TO_ZEROS": True,
    "FILTER_MIN_POINTS_IN_GT": 1,
    "BALANCED_RESAMPLING": False,
    "POINT_CLOUD_RANGE": [-25.6, -25.6, -5, 25.6, 25.6, 3],
    "DATA_SPLIT": {"train": "train", "test": "val"},
    "INFO_PATH": {
        "train": ["nuscenes_infos_4sweeps_train.pkl"],
        "test": ["nuscenes_infos_4sweeps_val.pkl"],
    },
    "DATA_AUGMENTOR": {
        "DISABLE_AUG_LIST": ["placeholder"],
        "AUG_CONFIG_LIST": [
            {
                "NAME": "gt_sampling",
                "DB_INFO_PATH": ["nuscenes_dbinfos_4sweeps_withvelo.pkl"],
                "PREPARE": {"filter_by_min_points": ["car:5", "truck:5"]},
                "SAMPLE_GROUPS": ["car:4", "truck:1", "pedestrian:2"],
                "NUM_POINT_FEATURES": 5,
                "DATABASE_WITH_FAKELIDAR": False,
                "REMOVE_EXTRA_WIDTH": [0.0, 0.0, 0.0],
                "LIMIT_WHOLE_SCENE": True,
            },
            {"NAME": "random_world_flip", "ALONG_AXIS_LIST": ["x", "y"]},
            {"NAME": "random_world_rotation", "WORLD_ROT_ANGLE": [-0.4, 0.4]},
            {"NAME": "random_world_scaling", "WORLD_SCALE_RANGE": [0.95, 1.05]},
        ],
    },
    "POINT_FEATURE_ENCODING": {
        "encoding_type": "absolute_coordinates_encoding",
        "used_feature_list": ["x", "y", "z", "intensity", "timestamp"],
        "src_feature_list": ["x", "y", "z", "intensity", "timestamp"],
    },
    "DATA_PROCESSOR": [
        {"NAME": "mask_points_and_boxes_outside_range", "REMOVE_OUTSIDE_BOXES": True},
        {"NAME": "shuffle_points", "SHUFFLE_ENABLED": {"train": True, "test": True}},
        {
            "NAME": "transform_points_to_voxels",
            "VOXEL_SIZE": [0.8, 0.8, 8],
            "MAX_POINTS_PER_VOXEL": 20,
            "MAX_NUMBER_OF_VOXELS": {"train": 2000, "test": 2000},
        },
    ],
}


def make_files(tiny: TinyNuScenes) -> None:
    """Info files and database."""
    folder = NuScenesFolder(tiny.data_path, tiny.version)
    create_nuscenes_infos(folder, MAX_SWEEPS, show_progress=False)
