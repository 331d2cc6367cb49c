"""What kind of value a key of the yaml holds, where OpenPCDet's classes take one kind only.

A number in the place of a list would otherwise fail deep inside a model, or after a night of training.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_list_of_numbers(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(map(_is_number, value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(map(_is_text, value))


# kind in words: (test, keys that hold it wherever they stand)
KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "a number": (
        _is_number,
        """
        NUM_BEV_FEATURES MAX_POINTS_PER_VOXEL DIR_OFFSET DIR_LIMIT_OFFSET NUM_DIR_BINS feature_map_stride
        matched_threshold unmatched_threshold cls_weight loc_weight dir_weight GRAD_NORM_CLIP
        LR WEIGHT_DECAY NUM_EPOCHS BATCH_SIZE_PER_GPU""",
    ),
    "a list of numbers": (
        _is_list_of_numbers,
        """
        POINT_CLOUD_RANGE VOXEL_SIZE LAYER_NUMS LAYER_STRIDES NUM_FILTERS UPSAMPLE_STRIDES NUM_UPSAMPLE_FILTERS
        anchor_rotations anchor_bottom_heights code_weights MOMS DECAY_STEP_LIST RECALL_THRESH_LIST""",
    ),
    "text": (_is_text, "DATASET DATA_PATH NAME OPTIMIZER NMS_TYPE BOX_CODER"),
    "a list of texts": (
        _is_list_of_texts,
        """
        CLASS_NAMES GET_ITEM_LIST SAMPLE_GROUPS DISABLE_AUG_LIST used_feature_list src_feature_list""",
    ),
}
KIND_OF_KEY = {key: kind for kind, (_, keys) in KINDS.items() for key in keys.split()}
# functions of OpenPCDet that are looked up late, when the first frame is tested
KNOWN_NAMES = {
    "NMS_TYPE": ("nms_gpu", "nms_normal_gpu", "circle_nms", "class_specific_nms", "multi_class_nms")
}
NOT_EMPTY = ("NUM_FILTERS", "CLASS_NAMES", "ANCHOR_GENERATOR_CONFIG", "DATA_PROCESSOR")


def wrong_kind(key: str, value: Any) -> str:
    """What is wrong with ``value`` under ``key``, as ``"expected a number, got 'a'"``; empty when nothing is.

    A null stands for a key that is not there; whoever needs the key says so.
    """
    if value is None:
        return ""
    kind = KIND_OF_KEY.get(key)
    if kind is not None and not KINDS[kind][0](value):
        return f"expected {kind}, got {value!r}"
    return (
        "expected at least one entry, got an empty list" if key in NOT_EMPTY and value == [] else ""
    )
