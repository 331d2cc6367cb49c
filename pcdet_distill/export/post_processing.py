"""PostProcessing of a config: which boxes are dropped, and which suppress each other.

OpenPCDet decides this at three places by several keys. Written out as groups of NMS they are one
rule, which a program without this package can follow.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..config import lookup, required
from ..errors import ConfigError
from ..models import Detector3DTemplate
from ..models.dense_heads.center_head import POST_PROCESSING as CENTER_WHERE
from ..models.dense_heads.center_head import CenterHead
from ..models.dense_heads.center_nms import BY_CLASS, nms_config_of_class, nms_config_of_head
from ..models.detectors.post_processing import WHERE
from ..types import ConfigDict
from .config import HeadSpec, NmsGroup, PostProcessing

KINDS = {"nms_gpu": "rotated", "nms_normal_gpu": "axis_aligned", "circle_nms": "circle"}


def post_processing_of(model: Detector3DTemplate, heads: Sequence[HeadSpec]) -> PostProcessing:
    """The rules of a detector whose network has the outputs ``heads``."""
    if isinstance(model.dense_head, CenterHead):
        return _of_center_head(model.dense_head)
    return _of_anchors(required(model.model_cfg, "POST_PROCESSING", "MODEL"), heads)


def _of_anchors(settings: ConfigDict, heads: Sequence[HeadSpec]) -> PostProcessing:
    if settings.get("OUTPUT_RAW_SCORE"):
        raise ConfigError(
            f"{WHERE}.OUTPUT_RAW_SCORE is true, expected false for an export: its scores are those "
            "after the sigmoid"
        )
    nms_config = required(settings, "NMS_CONFIG", WHERE)
    groups = []
    if nms_config.get("MULTI_CLASSES_NMS"):
        for number, head in enumerate(heads):
            for label in head.column_labels:
                groups.append(_group((number,), label, nms_config))
    else:
        groups.append(_group(tuple(range(len(heads))), None, nms_config))
    return PostProcessing(
        score_threshold=float(required(settings, "SCORE_THRESH", WHERE)),
        keeps_equal=True,
        centre_range_m=None,
        nms=tuple(groups),
    )


def _of_center_head(head: CenterHead) -> PostProcessing:
    settings = required(head.model_cfg, "POST_PROCESSING", "MODEL.DENSE_HEAD")
    nms_config = required(settings, "NMS_CONFIG", CENTER_WHERE)
    groups = []
    for number, labels in enumerate(head.head_labels):
        if nms_config["NMS_TYPE"] == BY_CLASS:
            for label in labels:
                own = nms_config_of_class(nms_config, label, head.num_class)
                groups.append(_group((number,), label, own))
        else:
            own = nms_config_of_head(nms_config, number, len(head.head_labels))
            groups.append(_group((number,), None, own))
    limits = required(settings, "POST_CENTER_LIMIT_RANGE", CENTER_WHERE)
    return PostProcessing(
        score_threshold=float(required(settings, "SCORE_THRESH", CENTER_WHERE)),
        keeps_equal=False,
        centre_range_m=tuple(float(limit) for limit in limits),
        nms=tuple(groups),
    )


def _group(heads: tuple[int, ...], label: int | None, nms_config: ConfigDict) -> NmsGroup:
    return NmsGroup(
        heads=heads,
        label=label,
        kind=lookup(KINDS, nms_config["NMS_TYPE"], "NMS_CONFIG.NMS_TYPE"),
        threshold=float(nms_config["NMS_THRESH"]),
        pre_maxsize=_limit(nms_config["NMS_PRE_MAXSIZE"]),
        post_maxsize=_limit(nms_config["NMS_POST_MAXSIZE"]),
    )


def _limit(count: int | None) -> int | None:
    return None if count is None else int(count)
