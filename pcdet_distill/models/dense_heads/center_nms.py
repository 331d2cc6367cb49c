"""NMS of centre heads: one for a head, by overlap or distance, or one for each of its classes.

NMS_CONFIG.NMS_TYPE is one of

* ``nms_gpu``, ``nms_normal_gpu``: by the overlap from above, rotated or not;
* ``circle_nms``: by the distance of the centres (CenterPoint, CVPR 2021). NMS_THRESH is a distance
  in metres, one for all heads or a list with one for each. It costs less, and suits small objects,
  whose boxes hardly overlap. OpenPCDet knows the name but refuses it;
* ``class_specific_nms``: ``nms_gpu`` for every class by itself. NMS_THRESH, NMS_PRE_MAXSIZE and
  NMS_POST_MAXSIZE are lists with an entry for every class, in the order of CLASS_NAMES.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...config import required
from ...errors import ConfigError
from ...ops.nms import class_agnostic_nms
from ...types import ConfigDict

WHERE = "MODEL.DENSE_HEAD.POST_PROCESSING.NMS_CONFIG"
BY_CLASS = "class_specific_nms"
BY_DISTANCE = "circle_nms"
LISTED_BY_CLASS = ("NMS_THRESH", "NMS_PRE_MAXSIZE", "NMS_POST_MAXSIZE")


def nms_of_head(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    nms_config: ConfigDict,
    *,
    head: int,
    head_labels: Sequence[Sequence[int]],
) -> Tensor:
    """Rows (R,) int64 that NMS keeps, by falling score; with class_specific_nms class by class.

    Args:
        boxes: (K, 7 + C) of one frame.
        scores: (K,).
        labels: (K,) from 1.
        nms_config: NMS_CONFIG.
        head: number of the head.
        head_labels: per head the labels of its classes.
    """
    nms_type = required(nms_config, "NMS_TYPE", WHERE)
    if nms_type == BY_CLASS:
        num_class = sum(len(own) for own in head_labels)
        parts = []
        for label in head_labels[head]:
            rows = torch.nonzero(labels == label)[:, 0]
            of_class = nms_config_of_class(nms_config, label, num_class)
            kept, _ = class_agnostic_nms(scores[rows], boxes[rows], of_class)
            parts.append(rows[kept])
        return torch.cat(parts)
    nms_config = nms_config_of_head(nms_config, head, len(head_labels))
    kept, _ = class_agnostic_nms(scores, boxes, nms_config)
    return kept


def nms_config_of_class(nms_config: ConfigDict, label: int, num_class: int) -> ConfigDict:
    """NMS_CONFIG of one class, by its label (from 1), for class_specific_nms."""
    entries: dict[str, object] = {"NMS_TYPE": "nms_gpu"}
    for key in LISTED_BY_CLASS:
        values = required(nms_config, key, WHERE)
        if not isinstance(values, (list, tuple)) or len(values) != num_class:
            raise ConfigError(
                f"{WHERE}.{key} is {values!r}, expected a list with an entry for each of the "
                f"{num_class} classes, because NMS_TYPE is {BY_CLASS}"
            )
        entries[key] = values[label - 1]
    return entries


def nms_config_of_head(nms_config: ConfigDict, head: int, num_heads: int) -> ConfigDict:
    """NMS_CONFIG of one head: with circle_nms its own distance."""
    if nms_config["NMS_TYPE"] != BY_DISTANCE:
        return nms_config
    radius = required(nms_config, "NMS_THRESH", WHERE)
    if isinstance(radius, (list, tuple)):
        if len(radius) != num_heads:
            raise ConfigError(
                f"{WHERE}.NMS_THRESH has {len(radius)} distances, expected one for each of the "
                f"{num_heads} heads, or one number"
            )
        radius = radius[head]
    return {**nms_config, "NMS_THRESH": radius}
