"""The texts of the yaml files, with places for what depends on the data."""

from __future__ import annotations

from string import Template

DATASET = Template(
    """# Made by 'pcdet-distill data custom' from the labels and clouds of this folder.
DATASET: CustomDataset
DATA_PATH: ${data_path}

# ${why_range}
# It has ${nx} x ${ny} pillars.
POINT_CLOUD_RANGE: ${limits}      # x, y, z min, then max, in metres

DATA_SPLIT: {train: train, test: val}      # ${why_split}
INFO_PATH:
    train: [custom_infos_train.pkl]
    test: [custom_infos_val.pkl]

POINT_FEATURE_ENCODING:
    encoding_type: absolute_coordinates_encoding
    used_feature_list: ${seen}      # what the model sees${more}
    src_feature_list: ${stored}      # the columns of points/*.npy

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
              filter_by_min_points: ${min_points}
          SAMPLE_GROUPS: ${counts}
          NUM_POINT_FEATURES: ${num_features}
          DATABASE_WITH_FAKELIDAR: False
          REMOVE_EXTRA_WIDTH: [0.0, 0.0, 0.0]
          LIMIT_WHOLE_SCENE: True
${flip}
        - NAME: random_world_rotation
          WORLD_ROT_ANGLE: [-0.78539816, 0.78539816]

        - NAME: random_world_scaling
          WORLD_SCALE_RANGE: [0.95, 1.05]

DATA_PROCESSOR:
    - NAME: mask_points_and_boxes_outside_range
      REMOVE_OUTSIDE_BOXES: True

    - NAME: shuffle_points
      SHUFFLE_ENABLED: {train: True, test: False}

    # ${why_pillar}
    # ${why_voxels}
    - NAME: transform_points_to_voxels
      VOXEL_SIZE: [${pillar}, ${pillar}, ${height}]
      MAX_POINTS_PER_VOXEL: ${max_points}
      MAX_NUMBER_OF_VOXELS: {train: ${max_train}, test: ${max_test}}
"""
)

TEACHER = Template(
    """# PointPillars, the teacher; alone it is a detector like any other:
#   pcdet-distill train --cfg_file ${own_file}
CLASS_NAMES: ${classes}

DATA_CONFIG:
    _BASE_CONFIG_: ${dataset_file}

MODEL:
    NAME: PointPillar
${momentum}
    VFE:
        NAME: PillarVFE
        WITH_DISTANCE: False
        USE_ABSLOTE_XYZ: True
        USE_NORM: True
        NUM_FILTERS: [${channels}]

    MAP_TO_BEV:
        NAME: PointPillarScatter
        NUM_BEV_FEATURES: ${channels}

    BACKBONE_2D:
        NAME: BaseBEVBackbone
        LAYER_NUMS: [3, 5, 5]
        LAYER_STRIDES: [2, 2, 2]
        NUM_FILTERS: [${channels}, ${channels_2}, ${channels_4}]
        UPSAMPLE_STRIDES: [1, 2, 4]
        NUM_UPSAMPLE_FILTERS: [${channels_2}, ${channels_2}, ${channels_2}]

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
${anchors}
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
    BATCH_SIZE_PER_GPU: ${batch_size}
    NUM_EPOCHS: ${epochs}      # ${why_epochs}

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
)

ANCHOR = Template(
    """            - class_name: ${name}
              anchor_sizes: [${size}]
              anchor_rotations: [0, 1.57]
              anchor_bottom_heights: [${bottom}]
              align_center: False
              feature_map_stride: 2
              matched_threshold: ${matched}
              unmatched_threshold: ${unmatched}
"""
)

FLIP = Template(
    """
        # Objects lie on both sides of the sensor, so mirrored scenes stay inside the range.
        - NAME: random_world_flip
          ALONG_AXIS_LIST: [${axes}]
"""
)

SHORT_TRAINING = """\
    # The usual 0.01 is too slow for the running statistics of so short a training.
    BN_MOMENTUM: 0.1
"""

STUDENT = Template(
    """# The student: the teacher's layers at half its widths, a quarter of its parameters.
# Before training each layer gets the teacher's most useful channels; the teacher is not run later.
#   pcdet-distill train --cfg_file ${own_file} --teacher_ckpt TEACHER.pth
_BASE_CONFIG_: ${teacher_file}

MODEL:
    VFE:
        NUM_FILTERS: [${channels}]
    MAP_TO_BEV:
        NUM_BEV_FEATURES: ${channels}
    BACKBONE_2D:
        NUM_FILTERS: [${channels}, ${channels_2}, ${channels_4}]
        NUM_UPSAMPLE_FILTERS: [${channels_2}, ${channels_2}, ${channels_2}]

DISTILL:
    TEACHER:
        CFG_FILE: ${teacher_file}
        CKPT: null                        # --teacher_ckpt names it
    INIT_STUDENT: SLICE                   # NONE for random weights
    TERMS: {}                             # losses between teacher and student: docs/methods.md
"""
)
