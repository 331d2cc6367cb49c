"""The yaml files of a data set: a PointPillars teacher, and a student of a quarter of its size.

They are written as text, because each value that depends on the data has a comment that says how it
was found.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .settings import Anchor, Grid, Sampling, Schedule, VoxelLimits

TEACHER_CHANNELS = 64
STUDENT_CHANNELS = 32


@dataclass(frozen=True)
class YamlValues:
    """What the yaml files say about the data."""

    data_path: Path
    classes: tuple[str, ...]
    stored: tuple[str, ...]
    seen: tuple[str, ...]
    grid: Grid
    limits: VoxelLimits
    anchors: tuple[Anchor, ...]
    sampling: dict[str, Sampling]
    schedule: Schedule
    comments: dict[str, str]


def quoted(name: str) -> str:
    """A text that yaml reads as this text: in double quotes, with its own letters."""
    return json.dumps(name, ensure_ascii=False)


def listed(names: Sequence[str]) -> str:
    """A yaml list of texts on one line."""
    return f"[{', '.join(quoted(name) for name in names)}]"


def dataset_yaml(values: YamlValues) -> str:
    """The DATA_CONFIG of both files."""
    grid = values.grid
    low_z, high_z = grid.limits[2], grid.limits[5]
    height = round(high_z - low_z, 2)
    nx, ny = grid.shape
    not_seen = [name for name in values.stored if name not in values.seen]
    more = f"; points/ also has {', '.join(not_seen)}" if not_seen else ""
    return f"""# Made by 'pcdet-distill data custom' from the labels and clouds of this folder.
DATASET: CustomDataset
DATA_PATH: {quoted(str(values.data_path))}

# {values.comments["range"]}
# It has {nx} x {ny} pillars.
POINT_CLOUD_RANGE: {_numbers(grid.limits)}      # x, y, z min, then max, in metres

DATA_SPLIT: {{train: train, test: val}}      # {values.comments["split"]}
INFO_PATH:
    train: [custom_infos_train.pkl]
    test: [custom_infos_val.pkl]

POINT_FEATURE_ENCODING:
    encoding_type: absolute_coordinates_encoding
    used_feature_list: {listed(values.seen)}      # what the model sees{more}
    src_feature_list: {listed(values.stored)}      # the columns of points/*.npy

# AP in LiDAR coordinates, without a camera: docs/evaluation.md lists the keys.
EVALUATION:
    DEFAULT_IOU: [0.5, 0.25]

DATA_AUGMENTOR:
    DISABLE_AUG_LIST: [placeholder]
    AUG_CONFIG_LIST:
        # Objects of other frames are pasted: as many as the training frames have to spare, with as
        # many points as half of their class has, up to 5.
        - NAME: gt_sampling
          USE_ROAD_PLANE: False
          DB_INFO_PATH: [custom_dbinfos_train.pkl]
          PREPARE:
              filter_by_min_points: {_entries(values, "min_points")}
          SAMPLE_GROUPS: {_entries(values, "count")}
          NUM_POINT_FEATURES: {len(values.stored)}
          DATABASE_WITH_FAKELIDAR: False
          REMOVE_EXTRA_WIDTH: [0.0, 0.0, 0.0]
          LIMIT_WHOLE_SCENE: True
{_flip(grid)}
        - NAME: random_world_rotation
          WORLD_ROT_ANGLE: [-0.78539816, 0.78539816]

        - NAME: random_world_scaling
          WORLD_SCALE_RANGE: [0.95, 1.05]

DATA_PROCESSOR:
    - NAME: mask_points_and_boxes_outside_range
      REMOVE_OUTSIDE_BOXES: True

    - NAME: shuffle_points
      SHUFFLE_ENABLED: {{train: True, test: False}}

    # {values.comments["pillar"]}
    # {values.comments["voxels"]}
    - NAME: transform_points_to_voxels
      VOXEL_SIZE: [{grid.pillar_m:g}, {grid.pillar_m:g}, {height:g}]
      MAX_POINTS_PER_VOXEL: {values.limits.max_points}
      MAX_NUMBER_OF_VOXELS: {{train: {values.limits.train}, test: {values.limits.test}}}
"""


def _flip(grid: Grid) -> str:
    """The flips that keep the objects inside the range; nothing where none does."""
    if not grid.flip_axes:
        return ""
    return f"""
        # Objects lie on both sides of the sensor, so mirrored scenes stay inside the range.
        - NAME: random_world_flip
          ALONG_AXIS_LIST: [{", ".join(grid.flip_axes)}]
"""


def _numbers(numbers: Sequence[float]) -> str:
    return f"[{', '.join(f'{number:g}' for number in numbers)}]"


def _entries(values: YamlValues, what: str) -> str:
    """A list of 'Class:number'."""
    return listed([f"{name}:{getattr(values.sampling[name], what)}" for name in values.classes])


def teacher_yaml(values: YamlValues, dataset_file: str) -> str:
    """PointPillars at KITTI's widths."""
    channels = TEACHER_CHANNELS
    anchors = "".join(_anchor(anchor) for anchor in values.anchors)
    schedule = values.schedule
    return f"""# PointPillars, the teacher; alone it is a detector like any other:
#   pcdet-distill train --cfg_file {dataset_file.replace("dataset", "teacher")}
CLASS_NAMES: {listed(values.classes)}

DATA_CONFIG:
    _BASE_CONFIG_: {quoted(dataset_file)}

MODEL:
    NAME: PointPillar
{_momentum(schedule)}
    VFE:
        NAME: PillarVFE
        WITH_DISTANCE: False
        USE_ABSLOTE_XYZ: True
        USE_NORM: True
        NUM_FILTERS: [{channels}]

    MAP_TO_BEV:
        NAME: PointPillarScatter
        NUM_BEV_FEATURES: {channels}

    BACKBONE_2D:
        NAME: BaseBEVBackbone
        LAYER_NUMS: [3, 5, 5]
        LAYER_STRIDES: [2, 2, 2]
        NUM_FILTERS: [{channels}, {2 * channels}, {4 * channels}]
        UPSAMPLE_STRIDES: [1, 2, 4]
        NUM_UPSAMPLE_FILTERS: [{2 * channels}, {2 * channels}, {2 * channels}]

    DENSE_HEAD:
        NAME: AnchorHeadSingle
        CLASS_AGNOSTIC: False
        USE_DIRECTION_CLASSIFIER: True
        DIR_OFFSET: 0.78539
        DIR_LIMIT_OFFSET: 0.0
        NUM_DIR_BINS: 2

        # Sizes and undersides are the medians of the labelled boxes. An anchor is an object from
        # matched_threshold on: KITTI's 0.6 for objects of the size of a car and 0.5 for smaller
        # ones, less where half of the boxes could not reach it.
        ANCHOR_GENERATOR_CONFIG:
{anchors}
        TARGET_ASSIGNER_CONFIG:
            NAME: AxisAlignedTargetAssigner
            POS_FRACTION: -1.0
            SAMPLE_SIZE: 512
            NORM_BY_NUM_EXAMPLES: False
            MATCH_HEIGHT: False
            BOX_CODER: ResidualCoder

        LOSS_CONFIG:
            LOSS_WEIGHTS:
                cls_weight: 1.0
                loc_weight: 2.0
                dir_weight: 0.2
                code_weights: [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]

    POST_PROCESSING:
        RECALL_THRESH_LIST: [0.3, 0.5, 0.7]
        SCORE_THRESH: 0.1
        OUTPUT_RAW_SCORE: False
        EVAL_METRIC: lidar
        NMS_CONFIG:
            MULTI_CLASSES_NMS: False
            NMS_TYPE: nms_gpu
            NMS_THRESH: 0.01
            NMS_PRE_MAXSIZE: 4096
            NMS_POST_MAXSIZE: 500

OPTIMIZATION:
    BATCH_SIZE_PER_GPU: {schedule.batch_size}
    NUM_EPOCHS: {schedule.epochs}      # {values.comments["epochs"]}

    OPTIMIZER: adam_onecycle
    LR: 0.003
    WEIGHT_DECAY: 0.01
    MOMENTUM: 0.9
    MOMS: [0.95, 0.85]
    PCT_START: 0.4
    DIV_FACTOR: 10

    DECAY_STEP_LIST: [35, 45]
    LR_DECAY: 0.1
    LR_CLIP: 0.0000001
    LR_WARMUP: False
    WARMUP_EPOCH: 1

    GRAD_NORM_CLIP: 10
"""


def _momentum(schedule: Schedule) -> str:
    if not schedule.is_short:
        return ""
    return """    # The usual 0.01 is too slow for the running statistics of so short a training.
    BN_MOMENTUM: 0.1
"""


def _anchor(anchor: Anchor) -> str:
    return f"""            - class_name: {quoted(anchor.name)}
              anchor_sizes: [{_numbers(anchor.size)}]
              anchor_rotations: [0, 1.57]
              anchor_bottom_heights: [{anchor.bottom_m:g}]
              align_center: False
              feature_map_stride: 2
              matched_threshold: {anchor.matched:g}
              unmatched_threshold: {anchor.unmatched:g}
"""


def student_yaml(teacher_file: str) -> str:
    """The teacher at half of its widths, initialised from it."""
    channels = STUDENT_CHANNELS
    own_file = teacher_file.replace("teacher", "student")
    return f"""# The student: the teacher's layers at half its widths, a quarter of its parameters.
# Before training each layer gets the teacher's most useful channels; the teacher is not run later.
#   pcdet-distill train --cfg_file {own_file} --teacher_ckpt TEACHER.pth
_BASE_CONFIG_: {quoted(teacher_file)}

MODEL:
    VFE:
        NUM_FILTERS: [{channels}]
    MAP_TO_BEV:
        NUM_BEV_FEATURES: {channels}
    BACKBONE_2D:
        NUM_FILTERS: [{channels}, {2 * channels}, {4 * channels}]
        NUM_UPSAMPLE_FILTERS: [{2 * channels}, {2 * channels}, {2 * channels}]

DISTILL:
    TEACHER:
        CFG_FILE: {quoted(teacher_file)}
        CKPT: null                        # --teacher_ckpt names it
    INIT_STUDENT: SLICE                   # NONE for random weights
    TERMS: {{}}                             # losses between teacher and student: docs/methods.md
"""
