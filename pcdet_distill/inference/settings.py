"""Which boxes a detector returns: score threshold, NMS threshold, number and classes.

A yaml has these settings in MODEL.POST_PROCESSING, or in MODEL.DENSE_HEAD.POST_PROCESSING where
the dense head makes the final boxes itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from torch import nn

from ..config import lookup, nearest, required
from ..errors import ConfigError
from ..types import ConfigDict
from .detections import Detections

BLOCK = "POST_PROCESSING"


@dataclass(frozen=True)
class BoxSettings:
    """What a user may change. None leaves what the yaml says.

    Attributes:
        score_threshold: the lowest score of a box, for all classes or by class.
        nms_threshold: the overlap from above over which the worse of two boxes is dropped. For
            ``circle_nms`` it is the distance in metres.
        max_boxes: the most boxes of a cloud.
        classes: the names of the classes that are returned.
    """

    score_threshold: float | Mapping[str, float] | None = None
    nms_threshold: float | None = None
    max_boxes: int | None = None
    classes: Sequence[str] | None = None

    def check(self, class_names: Sequence[str]) -> None:
        """Refuse what cannot be meant."""
        for threshold in _thresholds(self.score_threshold):
            if not (_is_number(threshold) and 0 <= threshold <= 1):
                raise ConfigError(f"score_threshold {threshold!r}: expected a score of 0..1")
        overlap = self.nms_threshold
        if overlap is not None and not (_is_number(overlap) and overlap >= 0):
            raise ConfigError(f"nms_threshold {overlap!r}: expected 0 or more")
        most = self.max_boxes
        if most is not None and not (isinstance(most, (int, np.integer)) and most >= 1):
            raise ConfigError(f"max_boxes {most!r}: expected a whole number, 1 or more")
        if isinstance(self.classes, str):
            raise ConfigError(f"classes {self.classes!r}: expected a list of names")
        known = dict.fromkeys(class_names)
        for name in self.classes or ():
            lookup(known, name, "classes")
        if isinstance(self.score_threshold, Mapping):
            for name in self.score_threshold:
                lookup(known, name, "score_threshold")

    def changed(self, changes: Mapping[str, Any]) -> BoxSettings:
        """These settings with those of one call, which come first; None changes nothing."""
        names = [field.name for field in fields(self)]
        for name in changes:
            if name not in names:
                raise ConfigError(f"unknown setting '{name}'{nearest(name, names)}")
        told = {name: value for name, value in changes.items() if value is not None}
        return replace(self, **told)

    def select(self, found: Detections) -> Detections:
        """The boxes of the asked classes with a score high enough for their class, the best."""
        keep = np.ones(len(found), dtype=bool)
        if self.classes is not None:
            keep &= np.isin(found.names, list(self.classes))
        if isinstance(self.score_threshold, Mapping):
            for name, threshold in self.score_threshold.items():
                keep &= (found.names != name) | (found.scores >= threshold)
        elif self.score_threshold is not None:
            keep &= found.scores >= self.score_threshold
        return found[keep][: self.max_boxes]

    @contextmanager
    def applied_to(self, model: nn.Module) -> Iterator[None]:
        """Let ``model`` make its final boxes by these settings, and by its own ones afterwards."""
        if self.score_threshold is None and self.nms_threshold is None:
            yield
            return
        owner = owner_of_settings(model)
        before = owner.model_cfg
        own = required(before, BLOCK, "MODEL")
        owner.model_cfg = {**before, BLOCK: self.block(own)}
        try:
            yield
        finally:
            owner.model_cfg = before

    def block(self, own: ConfigDict) -> ConfigDict:
        """The POST_PROCESSING block ``own`` of a yaml with these settings."""
        changed = dict(own)
        thresholds = _thresholds(self.score_threshold)
        if thresholds and isinstance(self.score_threshold, Mapping):
            # The classes that are not named keep the threshold of the yaml.
            thresholds.append(own["SCORE_THRESH"])
        if thresholds:
            changed["SCORE_THRESH"] = min(thresholds)
        if self.nms_threshold is not None:
            changed["NMS_CONFIG"] = _with_threshold(own, self.nms_threshold)
        return changed


def owner_of_settings(model: nn.Module) -> Any:
    """The module whose POST_PROCESSING makes the final boxes: the dense head, or the detector.

    CenterPoint, VoxelNeXt and TransFusion make their boxes in the head, unless a second stage
    follows.
    """
    head = getattr(model, "dense_head", None)
    has_block = bool(getattr(head, "model_cfg", {}).get(BLOCK))
    if has_block and getattr(model, "roi_head", None) is None:
        return head
    return model


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.number))


def _thresholds(threshold: float | Mapping[str, float] | None) -> list[float]:
    if threshold is None:
        return []
    return list(threshold.values()) if isinstance(threshold, Mapping) else [threshold]


def _with_threshold(own: ConfigDict, threshold: float) -> ConfigDict:
    """NMS_CONFIG with another threshold, for every class where it has several."""
    nms_config = own.get("NMS_CONFIG")
    if not nms_config:
        raise ConfigError(
            f"nms_threshold {threshold}: this detector has no NMS, it finds each object once"
        )
    old = nms_config["NMS_THRESH"]
    new = [threshold] * len(old) if isinstance(old, (list, tuple)) else threshold
    return {**nms_config, "NMS_THRESH": new}
