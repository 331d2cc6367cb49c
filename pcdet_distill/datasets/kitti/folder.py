"""The files of one half (``training`` or ``testing``) of a KITTI folder; errors name them."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from ...commands import command_text
from ...config import inside
from ...errors import DataError
from ...structures import Number
from ..info_structures import MAX_PIXELS
from ..point_files import check_point_file, read_points
from ..text_structures import Line, read_frame_list, read_text
from .calibration import Calibration
from .object3d import Object3d, read_labels

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Splits that KITTI does not have: a second labelled one, and frames without labels.
EXTRA_SPLITS = ("holdout", "unlabelled")
TRUE_LABELS = "label_2_true"
ROAD_PLANE = Line(dict.fromkeys("abcd", Number()))
SHORTEST_NORMAL = 1e-6
PLANE_LINE = 4  # of a planes file, from 1; three comment lines stand above
DATASET_YAML = "dataset_configs/kitti_dataset.yaml"
LAYOUT = "ImageSets/, training/{velodyne,calib,label_2,image_2}, testing/{velodyne,calib,image_2}"


class KittiFolder:
    """Reads frames of ``root/training``, or of ``root/testing`` for the split ``test``."""

    def __init__(self, root: Path, split: str) -> None:
        self.root = Path(root)
        self.split = split
        self.half = self.root / ("testing" if split == "test" else "training")

    def frame_ids(self) -> list[str]:
        """The frames that ``ImageSets/<split>.txt`` lists."""
        draws = create_data_command(self.root, "--make_split 0.5")
        return read_frame_list(
            split_file(self.root, self.split),
            missing="this split file does not exist; KITTI has no official one: the usual "
            "train/val split is distributed with OpenPCDet, mmdetection3d and every other "
            f"toolbox (ImageSets/*.txt), or '{draws}' draws one",
        )

    def file(self, folder: str, frame_id: str, suffix: str) -> Path:
        """A file of a frame; its id comes from a split file or from infos."""
        return inside(self.half / folder, f"{frame_id}{suffix}", f"frame of '{self.split}'")

    def points(self, frame_id: str) -> np.ndarray:
        """(N, 4) float32 x, y, z, intensity of the whole turn."""
        return read_points(self.file("velodyne", frame_id, ".bin"))

    def check_columns(self, frame_id: str) -> None:
        """Refuse points that clearly do not have KITTI's four columns, as of another sensor."""
        check_point_file(self.file("velodyne", frame_id, ".bin"))

    def calibration(self, frame_id: str) -> Calibration:
        """Calibration of the frame."""
        return Calibration.from_file(self.file("calib", frame_id, ".txt"))

    def labels(self, frame_id: str, folder: str = "label_2") -> list[Object3d]:
        """Labelled objects of the frame, DontCare last."""
        return read_labels(self.file(folder, frame_id, ".txt"))

    def has_true_labels(self) -> bool:
        """Whether the true boxes of simulated frames lie beside an annotator's labels."""
        return (self.half / TRUE_LABELS).is_dir()

    def image_shape(self, frame_id: str) -> np.ndarray:
        """(2,) int32 height and width of the camera-2 image, from its header alone.

        Zeros without the folder of images: then there is no camera, and no point is out of sight.
        """
        if not (self.half / "image_2").is_dir():
            return np.zeros(2, dtype=np.int32)
        return read_png_shape(self.file("image_2", frame_id, ".png"))

    def road_plane(self, frame_id: str) -> np.ndarray:
        """(4,) a, b, c, d of the ground ``a x + b y + c z + d = 0`` in rect coordinates.

        The normal (a, b, c) has length 1 and points up.
        """
        return read_road_plane(self.file("planes", frame_id, ".txt"))


def check_root(root: Path) -> Path:
    """``root`` itself, or a DataError that says where a KITTI folder comes from."""
    root = Path(root)
    if not (root / "training").is_dir() and not (root / "testing").is_dir():
        problem = "this dataset folder does not exist"
        if root.is_dir():
            problem = "has neither training/ nor testing/"
        simulate = command_text(
            "data", "synthetic", "--out", root, "--frames", "400", "--seed", "0"
        )
        raise DataError(
            f"{root}: {problem}; expected KITTI's layout ({LAYOUT}); a simulated one is made by "
            f"'{simulate}'"
        )
    return root


def create_data_command(root: Path, flags: str = "") -> str:
    """The command that makes the info files of the KITTI folder ``root``."""
    return command_text("data", "kitti", DATASET_YAML, *flags.split(), "--set", "DATA_PATH", root)


def split_file(root: Path, split: str) -> Path:
    """Where the list of a split's frames is."""
    return Path(root) / "ImageSets" / f"{split}.txt"


def read_png_shape(path: Path) -> np.ndarray:
    """(2,) int32 height and width of a PNG file."""
    try:
        with open(path, "rb") as file:
            header = file.read(24)
    except FileNotFoundError:
        raise DataError(
            f"{path}: this image does not exist; its size decides which points the camera sees"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    if len(header) < 24 or header[:8] != PNG_SIGNATURE or header[12:16] != b"IHDR":
        raise DataError(f"{path}: this is not a PNG image, or it is truncated")
    width, height = struct.unpack(">II", header[16:24])
    if not (0 < width <= MAX_PIXELS and 0 < height <= MAX_PIXELS):
        raise DataError(
            f"{path}: its header describes an image of {width} x {height} pixels; "
            "expected a picture"
        )
    return np.array([height, width], dtype=np.int32)


def read_road_plane(path: Path) -> np.ndarray:
    """(4,) plane of unit normal from a planes file: three comment lines, then a, b, c, d."""
    missing = "this road plane does not exist; USE_ROAD_PLANE needs one for every frame"
    lines = read_text(path, "a road plane", missing).splitlines()
    if len(lines) < PLANE_LINE:
        raise DataError(
            f"{path}: has {len(lines)} lines, expected a road plane: the numbers a b c d on the "
            "fourth line"
        )
    where = f"{path}, line {PLANE_LINE}"
    values = ROAD_PLANE.read(lines[PLANE_LINE - 1], where)
    plane = np.array(list(values.values()), dtype=np.float64)
    if np.linalg.norm(plane[:3]) < SHORTEST_NORMAL:
        raise DataError(f"{where}: a, b and c are 0; expected the normal of a plane")
    if plane[1] > 0:  # y of the rect coordinates points down, and the normal must point up
        plane = -plane
    return plane / np.linalg.norm(plane[:3])
