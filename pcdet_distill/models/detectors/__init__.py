"""Whole detectors: MODEL.NAME, and how one is built."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import ConfigError
from ...lookup import lookup
from ..model_utils.settings import required
from .centerpoint import CenterPoint
from .detector3d_template import Detector3DTemplate
from .pillarnet import PillarNet
from .point_rcnn import PointRCNN
from .pointpillar import PointPillar
from .second_net import SECONDNet

DETECTORS: dict[str, type[Detector3DTemplate]] = {
    "CenterPoint": CenterPoint,
    "PillarNet": PillarNet,
    "PointPillar": PointPillar,
    "PointRCNN": PointRCNN,
    "SECONDNet": SECONDNet,
}


def build_detector(model_cfg: Mapping[str, Any], num_class: int, dataset: Any) -> Detector3DTemplate:
    """The detector that MODEL.NAME names; ``dataset`` is a dataset or a DataSpec."""
    if not isinstance(model_cfg, Mapping):
        raise ConfigError(f"MODEL is {type(model_cfg).__name__}, expected a block with NAME and the slots' blocks")
    detector = lookup(DETECTORS, required(model_cfg, "NAME", "MODEL"), "MODEL.NAME")
    return detector(model_cfg=model_cfg, num_class=num_class, dataset=dataset)
