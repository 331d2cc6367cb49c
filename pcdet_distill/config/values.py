"""The type of the value under a key, for the keys whose type is always the same in OpenPCDet.

A number in the place of a list would otherwise fail deep inside a model, or after hours of
training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeGuard


@dataclass(frozen=True)
class Kind:
    """A type of value: its name in messages, its test, and the keys that have it anywhere."""

    words: str
    fits: Callable[[object], bool]
    keys: tuple[str, ...]


def is_number(value: object) -> TypeGuard[int | float]:
    """True and False are numbers in Python, but not in yaml."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_text(value: object) -> bool:
    """Whether the value is text."""
    return isinstance(value, str)


def _is_list_of_numbers(value: object) -> bool:
    return isinstance(value, (list, tuple)) and all(map(is_number, value))


def _is_list_of_texts(value: object) -> bool:
    return isinstance(value, (list, tuple)) and all(map(is_text, value))


KINDS = (
    Kind(
        "a number",
        is_number,
        (
            "NUM_BEV_FEATURES",
            "MAX_POINTS_PER_VOXEL",
            "DIR_OFFSET",
            "DIR_LIMIT_OFFSET",
            "NUM_DIR_BINS",
            "feature_map_stride",
            "matched_threshold",
            "unmatched_threshold",
            "cls_weight",
            "loc_weight",
            "dir_weight",
            "GRAD_NORM_CLIP",
            "LR",
            "WEIGHT_DECAY",
            "NUM_EPOCHS",
            "BATCH_SIZE_PER_GPU",
        ),
    ),
    Kind(
        "a list of numbers",
        _is_list_of_numbers,
        (
            "POINT_CLOUD_RANGE",
            "VOXEL_SIZE",
            "LAYER_NUMS",
            "LAYER_STRIDES",
            "NUM_FILTERS",
            "UPSAMPLE_STRIDES",
            "NUM_UPSAMPLE_FILTERS",
            "anchor_rotations",
            "anchor_bottom_heights",
            "code_weights",
            "MOMS",
            "DECAY_STEP_LIST",
            "RECALL_THRESH_LIST",
        ),
    ),
    Kind(
        "text",
        is_text,
        ("DATASET", "DATA_PATH", "NAME", "OPTIMIZER", "NMS_TYPE", "BOX_CODER"),
    ),
    Kind(
        "a list of texts",
        _is_list_of_texts,
        (
            "CLASS_NAMES",
            "GET_ITEM_LIST",
            "SAMPLE_GROUPS",
            "DISABLE_AUG_LIST",
            "used_feature_list",
            "src_feature_list",
        ),
    ),
)
KIND_OF_KEY: dict[str, Kind] = {}
for _kind in KINDS:
    KIND_OF_KEY.update(dict.fromkeys(_kind.keys, _kind))

# Functions that OpenPCDet looks up late, when the first frame is tested.
KNOWN_NAMES = {
    "NMS_TYPE": ("nms_gpu", "nms_normal_gpu", "circle_nms", "class_specific_nms", "multi_class_nms")
}
NOT_EMPTY = ("NUM_FILTERS", "CLASS_NAMES", "ANCHOR_GENERATOR_CONFIG", "DATA_PROCESSOR")

# A model with more layers in a block is built one by one until the memory is full.
MAX_LAYERS = 1000
COUNTS_OF_LAYERS = ("LAYER_NUMS", "NUM_HM_CONV", "NUM_MIDDLE_CONV", "num_conv")


def wrong_kind(key: str, value: object) -> str:
    """What is wrong with ``value`` under ``key``: ``"expected a number, got 'a'"``; else empty.

    A null stands for a key that is not there. The module that needs the key reports it.
    """
    if value is None:
        return ""
    kind = KIND_OF_KEY.get(key)
    if kind is not None and not kind.fits(value):
        return f"expected {kind.words}, got {value!r}"
    if key in NOT_EMPTY and value == []:
        return "expected at least one entry, got an empty list"
    if key in COUNTS_OF_LAYERS and _has_too_many_layers(value):
        return f"expected at most {MAX_LAYERS} layers, got {value!r}"
    return ""


def _has_too_many_layers(value: object) -> bool:
    """Whether a number of layers, or one of a list, is beyond any model."""
    counts = value if isinstance(value, (list, tuple)) else [value]
    return any(is_number(count) and count > MAX_LAYERS for count in counts)
