"""What the info files and object databases of every dataset hold, as far as it is read.

The files are OpenPCDet's or ours. Each entry is compared with its declaration once, when the file
is read. So the datasets use the values without a check of their own.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import DataError
from ..structures import (
    AtLeast,
    Checked,
    FrameId,
    ListOf,
    Maybe,
    NoneOr,
    Number,
    Numbers,
    Structure,
    Text,
    Texts,
    misfit_of,
)

MAX_PIXELS = 1_000_000  # height or width of an image
VALUES_A_BYTE = 16  # a file that seems to hold more refers to the same values again and again
SMALLEST_LIMIT = 1_000_000

COUNT = Number(least=0, most=2**31, whole=True)
MATRIX = Numbers(4, 4)
COLUMN = Numbers("M")
FILE = Text("the name of a file")
BOXES = Numbers("M", AtLeast(7), unknown_from=7)  # velocities follow, which can be unknown

KITTI_INFO = Structure(
    point_cloud=Structure(lidar_idx=FrameId()),
    # Height and width; zeros where there is no camera.
    image=Structure(image_shape=Numbers(2, least=0, most=MAX_PIXELS)),
    calib=Structure(
        P2=Numbers(AtLeast(3), AtLeast(4)),
        R0_rect=Numbers(AtLeast(3), AtLeast(3)),
        Tr_velo_to_cam=Numbers(AtLeast(3), AtLeast(4)),
    ),
    annos=Maybe(
        Structure(
            name=Texts("M"),
            truncated=COLUMN,
            occluded=COLUMN,
            alpha=COLUMN,
            bbox=Numbers("M", 4),
            dimensions=Numbers("M", 3),
            location=Numbers("M", 3),
            rotation_y=COLUMN,
            num_points_in_gt=Maybe(COLUMN),
        )
    ),
)

CUSTOM_INFO = Structure(
    point_cloud=Structure(lidar_idx=FrameId()),
    annos=Maybe(
        Structure(
            name=Texts("M"),
            gt_boxes_lidar=BOXES,
            num_points_in_gt=Maybe(COLUMN),
        )
    ),
)

# Of a version without annotations.
NUSCENES_UNLABELLED = Structure(
    lidar_path=FILE,
    token=Text(),
    sweeps=ListOf(
        Structure(
            lidar_path=FILE,
            transform_matrix=NoneOr(MATRIX),  # None: the key frame again, where none came before it
            time_lag=Number(),
        )
    ),
)
NUSCENES_INFO = NUSCENES_UNLABELLED.and_with(
    gt_boxes=Numbers("M", 9, unknown_from=7),
    gt_names=Texts("M"),
    num_lidar_pts=COLUMN,
)

ARGOVERSE2_INFO = Structure(
    uuid=Text("'LOG/TIMESTAMP'"),
    sample_idx=FrameId(),
    sweeps=ListOf(Structure(lidar_path=FILE, transform_matrix=MATRIX, time_lag=Number())),
    point_cloud=Structure(velodyne_path=FILE),
    max_sweeps=Maybe(COUNT),
    # OpenPCDet writes None for every label of a test frame.
    annos=Maybe(
        Structure(
            only_with="name",
            name=Texts("M"),
            location=Numbers("M", 3),
            dimensions=Numbers("M", 3),
            rotation_y=COLUMN,
            num_points_in_gt=COLUMN,
        )
    ),
)

DATABASE_OBJECT = Structure(
    name=Text(),
    path=FILE,
    box3d_lidar=Numbers(AtLeast(7), unknown_from=7),
    num_points_in_gt=COUNT,
    num_points_in_file=Maybe(COUNT),
    difficulty=Maybe(Number(whole=True)),
    global_data_offset=Maybe(Numbers(2, whole=True)),
)


# What a detector found in a frame, as result.pkl holds it. Benchmarks add their own keys.
DETECTIONS = Structure(
    frame_id=FrameId(),
    name=Texts("M"),
    score=COLUMN,
    boxes_lidar=BOXES,
)
# Those of KITTI, where the benchmark reads more.
KITTI_DETECTIONS = DETECTIONS.and_with(
    alpha=COLUMN,
    bbox=Numbers("M", 4),
    dimensions=Numbers("M", 3),
    location=Numbers("M", 3),
    rotation_y=COLUMN,
)


def check_detections(entries: object, where: str | Path) -> None:
    """Refuse what is no list of the detections of frames; ``where`` is their file."""
    if not isinstance(entries, list):
        raise DataError(f"{where}: expected a list with the detections of each frame")
    checked = Checked()
    for number, entry in enumerate(entries):
        is_kitti = isinstance(entry, dict) and "bbox" in entry
        misfit = misfit_of(entry, KITTI_DETECTIONS if is_kitti else DETECTIONS, checked)
        if misfit is not None:
            raise DataError(f"{where}: entry {number} holds no detections, {misfit}")


def checks_of_file(path: Path) -> Checked:
    """What is known of a file whose entries are checked one after the other."""
    return Checked(limit=SMALLEST_LIMIT + VALUES_A_BYTE * path.stat().st_size)
