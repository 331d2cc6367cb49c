"""A KITTI folder of a few hand-made frames, small enough to know every number of it."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from pcdet_distill.datasets.kitti.kitti_infos import create_kitti_infos

IMAGE_WIDTH = 1242
IMAGE_HEIGHT = 375
CALIB = """P0: 721.5 0 609.6 0 0 721.5 172.9 0 0 0 1 0
P1: 721.5 0 609.6 -387.6 0 721.5 172.9 0 0 0 1 0
P2: 721.5 0 609.6 44.9 0 721.5 172.9 0.2 0 0 1 0.003
P3: 721.5 0 609.6 -339.5 0 721.5 172.9 2.2 0 0 1 0.003
R0_rect: 1 0 0 0 1 0 0 0 1
Tr_velo_to_cam: 0 -1 0 0 0 0 -1 -0.08 1 0 0 -0.27
Tr_imu_to_velo: 1 0 0 -0.8 0 1 0 0.3 0 0 1 -0.8
"""
DONT_CARE = "DontCare -1 -1 -10 500.00 160.00 520.00 170.00 -1 -1 -1 -1000 -1000 -1000 -10"
SIZES = {
    "Car": (4.0, 1.6, 1.5),
    "Van": (5.0, 2.0, 2.2),
    "Pedestrian": (0.8, 0.6, 1.75),
    "Cyclist": (1.8, 0.6, 1.75),
}
GROUND_Z = -1.73


class TinyKitti:
    """Writes frames with the calibration above.

    It means rect x = -y, rect y = -z - 0.08 and rect z = x - 0.27.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        for folder in ("velodyne", "calib", "label_2", "image_2"):
            (root / "training" / folder).mkdir(parents=True)
        (root / "ImageSets").mkdir()

    def path(self, folder: str, frame_id: str) -> Path:
        suffix = {"velodyne": "bin", "image_2": "png"}.get(folder, "txt")
        return self.root / "training" / folder / f"{frame_id}.{suffix}"

    def label(
        self,
        name: str,
        x: float,
        y: float,
        heading: float = 0.0,
        truncation: float = 0.0,
        occlusion: int = 0,
    ) -> str:
        """A label line of an object that stands on the ground at LiDAR (x, y)."""
        length, width, height = SIZES[name]
        rect = (-y, -GROUND_Z - 0.08, x - 0.27)
        middle = 609.6 + 721.5 * rect[0] / rect[2]
        bottom = 172.9 + 721.5 * rect[1] / rect[2]
        top = bottom - 721.5 * height / rect[2]
        rotation_y = -heading - np.pi / 2
        numbers = (
            truncation,
            occlusion,
            0.0,
            middle - 20,
            top,
            middle + 20,
            bottom,
            height,
            width,
            length,
            *rect,
            rotation_y,
        )
        return " ".join([name, *(f"{number:.6f}" for number in numbers)])

    def points(self, objects: list[tuple], seed: int) -> np.ndarray:
        """(N, 4) points of the ground and, 40 each, inside the objects."""
        random = np.random.RandomState(seed)
        ground = np.column_stack(
            [random.uniform(2, 40, 500), random.uniform(-12, 12, 500), np.full(500, GROUND_Z)]
        )
        clouds = [ground]
        for name, x, y, *rest in objects:
            heading = rest[0] if rest else 0.0
            length, width, height = SIZES[name]
            local = random.uniform(-0.45, 0.45, (40, 3)) * [length, width, height]
            cosine = np.cos(heading)
            sine = np.sin(heading)
            rotated = local @ np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])
            clouds.append(rotated + [x, y, GROUND_Z + height / 2])
        xyz = np.concatenate(clouds)
        return np.column_stack([xyz, random.uniform(0, 1, len(xyz))]).astype(np.float32)

    def frame(
        self, frame_id: str, objects: list[tuple], more_lines: tuple[str, ...] = (DONT_CARE,)
    ) -> None:
        """Write all files of a frame; an object is (name, x, y[, heading])."""
        self.points(objects, int(frame_id)).tofile(self.path("velodyne", frame_id))
        self.path("calib", frame_id).write_text(CALIB)
        lines = [self.label(*entry) for entry in objects] + list(more_lines)
        self.path("label_2", frame_id).write_text("".join(f"{line}\n" for line in lines))
        header = b"\x89PNG\r\n\x1a\n" + struct.pack(
            ">I4sII", 13, b"IHDR", IMAGE_WIDTH, IMAGE_HEIGHT
        )
        self.path("image_2", frame_id).write_bytes(header)

    def split(self, **frames: list[str]) -> None:
        for name, frame_ids in frames.items():
            (self.root / "ImageSets" / f"{name}.txt").write_text("\n".join(frame_ids) + "\n")


def fill(kitti: TinyKitti) -> None:
    """Six training and three validation frames with infos."""
    for number in range(6):
        kitti.frame(
            f"{number:06d}",
            [
                ("Car", 12.0 + number, 3.0, 0.3),
                ("Pedestrian", 8.0, -2.0 + 0.3 * number),
                ("Van", 25.0, -4.0),
                ("Cyclist", 18.0, -1.0, 1.0),
            ],
        )
    kitti.frame("000006", [("Car", 20.0, 1.0)])
    kitti.frame("000007", [("Pedestrian", 10.0, 2.0)], more_lines=())
    kitti.frame("000008", [])
    kitti.split(train=[f"{number:06d}" for number in range(6)], val=["000006", "000007", "000008"])
    create_kitti_infos(kitti.root, show_progress=False)


DATA_CONFIG = {
    "DATASET": "KittiDataset",
    "DATA_PATH": "",
    "POINT_CLOUD_RANGE": [0, -20, -3, 40, 20, 1],
    "DATA_SPLIT": {"train": "train", "test": "val"},
    "INFO_PATH": {"train": ["kitti_infos_train.pkl"], "test": ["kitti_infos_val.pkl"]},
    "GET_ITEM_LIST": ["points"],
    "FOV_POINTS_ONLY": True,
    "DATA_AUGMENTOR": {
        "DISABLE_AUG_LIST": ["placeholder"],
        "AUG_CONFIG_LIST": [
            {
                "NAME": "gt_sampling",
                "USE_ROAD_PLANE": False,
                "DB_INFO_PATH": ["kitti_dbinfos_train.pkl"],
                "PREPARE": {"filter_by_min_points": ["Car:5"], "filter_by_difficulty": [-1]},
                "SAMPLE_GROUPS": ["Car:3", "Pedestrian:2"],
                "NUM_POINT_FEATURES": 4,
                "DATABASE_WITH_FAKELIDAR": False,
                "REMOVE_EXTRA_WIDTH": [0.0, 0.0, 0.0],
                "LIMIT_WHOLE_SCENE": True,
            },
            {"NAME": "random_world_flip", "ALONG_AXIS_LIST": ["x"]},
            {"NAME": "random_world_rotation", "WORLD_ROT_ANGLE": [-0.4, 0.4]},
            {"NAME": "random_world_scaling", "WORLD_SCALE_RANGE": [0.95, 1.05]},
        ],
    },
    "POINT_FEATURE_ENCODING": {
        "encoding_type": "absolute_coordinates_encoding",
        "used_feature_list": ["x", "y", "z", "intensity"],
        "src_feature_list": ["x", "y", "z", "intensity"],
    },
    "DATA_PROCESSOR": [
        {"NAME": "mask_points_and_boxes_outside_range", "REMOVE_OUTSIDE_BOXES": True},
        {"NAME": "shuffle_points", "SHUFFLE_ENABLED": {"train": True, "test": False}},
        {
            "NAME": "transform_points_to_voxels",
            "VOXEL_SIZE": [0.5, 0.5, 4],
            "MAX_POINTS_PER_VOXEL": 8,
            "MAX_NUMBER_OF_VOXELS": {"train": 1000, "test": 2000},
        },
    ],
}
