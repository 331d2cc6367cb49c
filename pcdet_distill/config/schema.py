"""The keys of a yaml file: those of OpenPCDet v0.6 for LiDAR detectors, and the DISTILL block.

OpenPCDet reads the keys that it needs and ignores the rest, so a misspelt key has no effect and no
message. Here every key is known by its place. There is one list of keys for each slot, not for
each class: every BACKBONE_2D may hold the keys of any BACKBONE_2D of OpenPCDet. All its own files
load, and typos are still found.

Two things are not checked here. A block whose NAME (DATASET for data) is none of OpenPCDet's
classes belongs to a module of the user's, with keys of its own. Its NAME is looked up when the
model is built; only a NAME that is nearly one of OpenPCDet's is refused at once. And the losses in
DISTILL.TERMS read their options themselves, and refuse unknown ones.
"""

from __future__ import annotations

from .argo2_options import Argo2Options
from .cloud_options import CloudOptions
from .distill_options import DistillOptions, TeacherOptions
from .lidar_eval_options import LidarEvalOptions
from .nodes import FREE, Block, ListOf, block, keys, options_block, slot
from .nuscenes_options import NuScenesOptions
from .options import option_keys

BY_PHASE = block("train test")
NMS_KEYS = """
    MULTI_CLASSES_NMS NMS_TYPE NMS_THRESH NMS_PRE_MAXSIZE NMS_POST_MAXSIZE SCORE_THRESH
    USE_FAST_NMS SCORE_TYPE SCORE_BY_CLASS SCORE_WEIGHTS
    """
NMS = block(NMS_KEYS)
BOX_CODER_KEYS = "use_mean_size mean_size code_size encode_angle_by_sincos"

AUGMENTOR = slot(
    """
    gt_sampling random_world_flip random_world_rotation random_world_scaling
    random_world_translation random_local_rotation random_local_scaling
    random_local_translation random_world_frustum_dropout random_local_frustum_dropout
    random_local_pyramid_aug thin_beams
    """,
    """
    ALONG_AXIS_LIST WORLD_ROT_ANGLE WORLD_SCALE_RANGE WORLD_TRANSLATION_RANGE
    NOISE_TRANSLATE_STD LOCAL_ROT_ANGLE LOCAL_SCALE_RANGE LOCAL_TRANSLATION_RANGE
    INTENSITY_RANGE DIRECTION DROP_PROB SPARSIFY_PROB SPARSIFY_MAX_NUM SWAP_PROB SWAP_MAX_NUM
    USE_ROAD_PLANE DB_INFO_PATH BACKUP_DB_INFO DB_DATA_PATH USE_SHARED_MEMORY SAMPLE_GROUPS
    NUM_POINT_FEATURES DATABASE_WITH_FAKELIDAR REMOVE_EXTRA_WIDTH LIMIT_WHOLE_SCENE
    FILTER_OBJ_POINTS_BY_TIMESTAMP TIME_RANGE AUG_WITH_IMAGE IMG_AUG_TYPE IMG_AUG_IOU_THRES
    JOINT_SAMPLE KEEP_RAW POINT_REFINE BOX_IOU_THRES KEEP_EVERY
    """,
    PREPARE=block("filter_by_min_points filter_by_difficulty"),
)

PROCESSOR = slot(
    """
    mask_points_and_boxes_outside_range shuffle_points sample_points calculate_grid_size
    transform_points_to_voxels transform_points_to_voxels_placeholder downsample_depth_map
    double_flip select_sensor select_sweeps thin_beams
    """,
    """
    REMOVE_OUTSIDE_BOXES min_num_corners USE_CENTER_TO_FILTER VOXEL_SIZE MAX_POINTS_PER_VOXEL
    DOUBLE_FLIP DOWNSAMPLE_FACTOR SENSORS MAX_AGE_S KEEP_EVERY OFFSET KEEP_BEAMS OF_BEAMS
    ON_DEVICE
    """,
    SHUFFLE_ENABLED=BY_PHASE,
    MAX_NUMBER_OF_VOXELS=BY_PHASE,
    NUM_POINTS=BY_PHASE,
)

DATA_CONFIG = Block(
    keys(
        """
        DATASET DATA_PATH POINT_CLOUD_RANGE GET_ITEM_LIST FOV_POINTS_ONLY CLASS_NAMES
        MAP_CLASS_TO_KITTI CAMERA_CONFIG
        """
        + " ".join(dict.fromkeys(option_keys(NuScenesOptions) + option_keys(Argo2Options))),
        DATA_SPLIT=BY_PHASE,
        INFO_PATH=BY_PHASE,
        DATA_AUGMENTOR=ListOf(
            AUGMENTOR,
            or_block=block("DISABLE_AUG_LIST ON_DEVICE", AUG_CONFIG_LIST=ListOf(AUGMENTOR)),
        ),
        POINT_FEATURE_ENCODING=block(
            "encoding_type used_feature_list src_feature_list filter_sweeps max_sweeps"
        ),
        DATA_PROCESSOR=ListOf(PROCESSOR),
        COMMON_CLOUD=options_block(CloudOptions),
        EVALUATION=options_block(LidarEvalOptions),
    ),
    names=("KittiDataset", "CustomDataset", "NuScenesDataset", "Argo2Dataset"),
    name_key="DATASET",
)

VFE = slot(
    """
    MeanVFE PillarVFE DynMeanVFE DynamicMeanVFE DynPillarVFE DynamicPillarVFE
    DynamicPillarVFESimple2D
    """,
    "WITH_DISTANCE USE_ABSLOTE_XYZ USE_CLUSTER_XYZ USE_NORM NUM_FILTERS",
)

SA_CONFIG = block("NPOINTS RADIUS NSAMPLE MLPS USE_XYZ")
BACKBONE_3D = slot(
    """
    VoxelBackBone8x VoxelResBackBone8x UNetV2 PointNet2MSG PointNet2Backbone PillarBackBone8x
    PillarRes18BackBone8x VoxelBackBone8xFocal VoxelResBackBone8xVoxelNeXt
    """,
    # NUM_FILTERS is ours: the channels of each level of a sparse backbone, for narrow students.
    """
    NUM_FILTERS FP_MLPS RETURN_ENCODED_TENSOR USE_BIAS last_pad NUM_KEYPOINTS SAMPLE_METHOD
    USE_IMG IMG_PRETRAIN TOPK THRESHOLD KERNEL_SIZE MASK_MULTI SKIP_MASK_KERNEL
    SKIP_MASK_KERNEL_IMG SPECIAL_MODULES
    """,
    SA_CONFIG=SA_CONFIG,
)

MAP_TO_BEV = slot(
    "HeightCompression PointPillarScatter PointPillarScatter3d Conv2DCollapse",
    "NUM_BEV_FEATURES INPUT_SHAPE ARGS",
)

BACKBONE_2D = slot(
    "BaseBEVBackbone BaseBEVBackboneV1 BaseBEVResBackbone",
    """
    LAYER_NUMS LAYER_STRIDES NUM_FILTERS UPSAMPLE_STRIDES NUM_UPSAMPLE_FILTERS
    USE_CONV_FOR_NO_STRIDE
    """,
)

POOL_KEYS = """
    NAME MLPS POOL_RADIUS NSAMPLE POOL_METHOD QUERY_RANGES DOWNSAMPLE_FACTOR INPUT_CHANNELS
    NUM_GROUPS LOCAL_AGGREGATION_TYPE NUM_REDUCED_CHANNELS NUM_CHANNELS_OF_LOCAL_AGGREGATION
    MSG_POST_MLPS FILTER_NEIGHBOR_WITH_ROI RADIUS_OF_NEIGHBOR_WITH_ROI
    """
VECTOR_POOL_GROUP = {
    "GROUP_CFG_*": block("NUM_LOCAL_VOXEL MAX_NEIGHBOR_DISTANCE NEIGHBOR_NSAMPLE POST_MLPS")
}
POOL_LAYER = block(POOL_KEYS, **VECTOR_POOL_GROUP)
POOL_SOURCES = Block({"raw_points": POOL_LAYER, "bev": POOL_LAYER, "x_conv*": POOL_LAYER})

PFE = slot(
    "VoxelSetAbstraction",
    "POINT_SOURCE NUM_KEYPOINTS NUM_OUTPUT_FEATURES SAMPLE_METHOD FEATURES_SOURCE",
    SPC_SAMPLING=block("NUM_SECTORS SAMPLE_RADIUS_WITH_ROI"),
    SA_LAYER=POOL_SOURCES,
)

POST_PROCESSING = block(
    """
    RECALL_THRESH_LIST SCORE_THRESH OUTPUT_RAW_SCORE EVAL_METRIC MULTI_CLASSES_NMS
    POST_CENTER_LIMIT_RANGE POST_CENTER_RANGE MAX_OBJ_PER_SAMPLE USE_IOU_TO_RECTIFY_SCORE
    IOU_RECTIFIER
    """,
    NMS_CONFIG=NMS,
)

DENSE_HEAD = slot(
    """
    AnchorHeadSingle AnchorHeadMulti CenterHead VoxelNeXtHead TransFusionHead PointHeadSimple
    PointHeadBox PointIntraPartOffsetHead
    """,
    """
    CLASS_AGNOSTIC USE_DIRECTION_CLASSIFIER DIR_OFFSET DIR_LIMIT_OFFSET NUM_DIR_BINS
    USE_MULTIHEAD SEPARATE_MULTIHEAD SHARED_CONV_NUM_FILTER CLASS_NAMES_EACH_HEAD
    SHARED_CONV_CHANNEL USE_BIAS_BEFORE_NORM NUM_HM_CONV BN_EPS BN_MOM IOU_REG_LOSS
    INPUT_FEATURES KERNEL_SIZE_HEAD NUM_PROPOSALS HIDDEN_CHANNEL NUM_CLASSES NUM_HEADS
    NMS_KERNEL_SIZE FFN_CHANNEL DROPOUT BN_MOMENTUM ACTIVATION
    """,
    ANCHOR_GENERATOR_CONFIG=ListOf(
        block(
            """
            class_name anchor_sizes anchor_rotations anchor_bottom_heights align_center
            feature_map_stride matched_threshold unmatched_threshold
            """
        )
    ),
    RPN_HEAD_CFGS=ListOf(
        block(
            """
            HEAD_CLS_NAME LAYER_NUMS LAYER_STRIDES NUM_FILTERS UPSAMPLE_STRIDES
            NUM_UPSAMPLE_FILTERS
            """
        )
    ),
    SEPARATE_REG_CONFIG=block("NUM_MIDDLE_CONV NUM_MIDDLE_FILTER REG_LIST"),
    SEPARATE_HEAD_CFG=block("HEAD_ORDER", HEAD_DICT=Block({"*": block("out_channels num_conv")})),
    TARGET_ASSIGNER_CONFIG=block(
        """
        NAME POS_FRACTION SAMPLE_SIZE NORM_BY_NUM_EXAMPLES MATCH_HEIGHT MATCHED_THRESHOLDS
        UNMATCHED_THRESHOLDS BOX_CODER TOPK FEATURE_MAP_STRIDE NUM_MAX_OBJS MAX_OBJS
        GAUSSIAN_OVERLAP MIN_RADIUS DATASET
        """,
        HUNGARIAN_ASSIGNER=block(
            "",
            cls_cost=block("gamma alpha weight"),
            reg_cost=block("weight"),
            iou_cost=block("weight"),
        ),
        BOX_CODER_CONFIG=block(BOX_CODER_KEYS),
    ),
    LOSS_CONFIG=block(
        "REG_LOSS_TYPE",
        LOSS_WEIGHTS=block(
            """
            cls_weight loc_weight dir_weight iou_weight code_weights pos_cls_weight
            neg_cls_weight bbox_weight hm_weight
            """
        ),
        LOSS_CLS=block("use_sigmoid gamma alpha"),
    ),
    POST_PROCESSING=POST_PROCESSING,
)

POINT_HEAD = slot(
    "PointHeadSimple PointHeadBox PointIntraPartOffsetHead",
    "CLS_FC REG_FC PART_FC CLASS_AGNOSTIC USE_POINT_FEATURES_BEFORE_FUSION",
    TARGET_CONFIG=block("GT_EXTRA_WIDTH BOX_CODER", BOX_CODER_CONFIG=block(BOX_CODER_KEYS)),
    LOSS_CONFIG=block(
        "LOSS_REG",
        LOSS_WEIGHTS=block("point_cls_weight point_box_weight point_part_weight code_weights"),
    ),
)

ROI_HEAD = slot(
    "PointRCNNHead PVRCNNHead VoxelRCNNHead PartA2FCHead SECONDHead",
    """
    CLASS_AGNOSTIC SHARED_FC CLS_FC REG_FC IOU_FC DP_RATIO USE_BN XYZ_UP_LAYER DISABLE_PART
    SEG_MASK_SCORE_THRESH
    """,
    NMS_CONFIG=block("", TRAIN=NMS, TEST=NMS),
    ROI_POINT_POOL=block("POOL_EXTRA_WIDTH NUM_SAMPLED_POINTS DEPTH_NORMALIZER"),
    ROI_AWARE_POOL=block("POOL_SIZE NUM_FEATURES MAX_POINTS_PER_VOXEL"),
    ROI_GRID_POOL=block(
        POOL_KEYS + " GRID_SIZE IN_CHANNEL DOWNSAMPLE_RATIO FEATURES_SOURCE PRE_MLP",
        POOL_LAYERS=POOL_SOURCES,
        **VECTOR_POOL_GROUP,
    ),
    SA_CONFIG=SA_CONFIG,
    TARGET_CONFIG=block(
        """
        BOX_CODER ROI_PER_IMAGE FG_RATIO SAMPLE_ROI_BY_EACH_CLASS CLS_SCORE_TYPE CLS_FG_THRESH
        CLS_BG_THRESH CLS_BG_THRESH_LO HARD_BG_RATIO REG_FG_THRESH
        """,
        BOX_CODER_CONFIG=block(BOX_CODER_KEYS),
    ),
    LOSS_CONFIG=block(
        "CLS_LOSS REG_LOSS IOU_LOSS CORNER_LOSS_REGULARIZATION GRID_3D_IOU_LOSS",
        LOSS_WEIGHTS=block(
            """
            rcnn_cls_weight rcnn_reg_weight rcnn_corner_weight rcnn_iou_weight
            rcnn_iou3d_weight code_weights
            """
        ),
    ),
)

MODEL = slot(
    """
    PointPillar SECONDNet SECONDNetIoU PointRCNN PVRCNN PVRCNNPlusPlus VoxelRCNN PartA2Net
    CenterPoint PillarNet VoxelNeXt TransFusion
    """,
    # BN_MOMENTUM is ours: the momentum of every BatchNorm. OpenPCDet's 0.01 needs long trainings.
    "BN_MOMENTUM",
    VFE=VFE,
    BACKBONE_3D=BACKBONE_3D,
    MAP_TO_BEV=MAP_TO_BEV,
    PFE=PFE,
    BACKBONE_2D=BACKBONE_2D,
    DENSE_HEAD=DENSE_HEAD,
    POINT_HEAD=POINT_HEAD,
    ROI_HEAD=ROI_HEAD,
    POST_PROCESSING=POST_PROCESSING,
)

OPTIMIZATION = block(
    """
    BATCH_SIZE_PER_GPU NUM_EPOCHS OPTIMIZER LR WEIGHT_DECAY MOMENTUM BETAS MOMS PCT_START
    DIV_FACTOR DECAY_STEP_LIST LR_DECAY LR_CLIP LR_WARMUP WARMUP_EPOCH WARMUP_ITER
    GRAD_NORM_CLIP USE_AMP LOSS_SCALE_FP16 AMP_DTYPE
    """
)

DISTILL = options_block(
    DistillOptions,
    TEACHER=options_block(TeacherOptions, MODEL=MODEL),
    TERMS=Block({"*": Block({"*": FREE})}),
)

EXPERIMENT = block(
    # ROOT_DIR to CONFIG_FILE are added by load_config, LOCAL_RANK by OpenPCDet's tools. They are
    # accepted so that a resolved config that was written out can be loaded again.
    "CLASS_NAMES TEACHER_CKPT ROOT_DIR TAG EXP_GROUP_PATH CONFIG_FILE LOCAL_RANK",
    DATA_CONFIG=DATA_CONFIG,
    MODEL=MODEL,
    OPTIMIZATION=OPTIMIZATION,
    HOOK=block("", DisableAugmentationHook=block("DISABLE_AUG_LIST NUM_LAST_EPOCHS")),
    DISTILL=DISTILL,
    MODEL_TEACHER=MODEL,
)
