"""Several anchor heads, on the pillars of small_model and in the SECOND of small_second."""

from __future__ import annotations

from easydict import EasyDict
from small_model import head_config, model_config
from small_second import second_config


def multi_config(groups: list[list[str]] | None = None, **changes) -> EasyDict:
    """DENSE_HEAD; one head for each class unless ``groups`` are given."""
    return make_multi(head_config(), groups, **changes)


def multi_model_config() -> EasyDict:
    """MODEL on pillars."""
    return _with_heads(model_config())


def multi_second_config() -> EasyDict:
    """MODEL on voxels."""
    return _with_heads(second_config())


def make_multi(head: EasyDict, groups: list[list[str]] | None = None, **changes) -> EasyDict:
    """AnchorHeadMulti's block of AnchorHeadSingle's."""
    groups = groups or [["Car"], ["Pedestrian"], ["Cyclist"]]
    head.update(
        NAME="AnchorHeadMulti",
        USE_MULTIHEAD=True,
        SEPARATE_MULTIHEAD=True,
        RPN_HEAD_CFGS=[{"HEAD_CLS_NAME": group} for group in groups],
    )
    head.update(changes)
    return head


def _with_heads(config: EasyDict) -> EasyDict:
    make_multi(config.DENSE_HEAD, SHARED_CONV_NUM_FILTER=8)
    config.POST_PROCESSING.NMS_CONFIG.MULTI_CLASSES_NMS = True
    return config
