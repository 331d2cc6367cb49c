"""Whole detectors: MODEL.NAME, and how one is built.

detector3d_template  runs the slots; ``slots`` has their order and constructs them
post_processing      from predictions to final boxes, and their recall

One stage: ``pointpillar``, ``second_net``, ``centerpoint``, ``pillarnet``, ``transfusion``,
``voxelnext``. Two stages: ``second_net_iou``, ``point_rcnn``, ``part_a2``, ``pv_rcnn``,
``pv_rcnn_plusplus``, ``voxel_rcnn``.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...config import lookup, required
from ...errors import ConfigError
from ...types import ConfigDict
from .centerpoint import CenterPoint
from .detector3d_template import Detector3DTemplate
from .part_a2 import PartA2Net
from .pillarnet import PillarNet
from .point_rcnn import PointRCNN
from .pointpillar import PointPillar
from .pv_rcnn import PVRCNN
from .pv_rcnn_plusplus import PVRCNNPlusPlus
from .second_net import SECONDNet
from .second_net_iou import SECONDNetIoU
from .slots import DetectorData
from .transfusion import TransFusion
from .voxel_rcnn import VoxelRCNN
from .voxelnext import VoxelNeXt

DETECTORS: dict[str, type[Detector3DTemplate]] = {
    "CenterPoint": CenterPoint,
    "PillarNet": PillarNet,
    "PVRCNN": PVRCNN,
    "PVRCNNPlusPlus": PVRCNNPlusPlus,
    "PartA2Net": PartA2Net,
    "PointPillar": PointPillar,
    "PointRCNN": PointRCNN,
    "SECONDNet": SECONDNet,
    "SECONDNetIoU": SECONDNetIoU,
    "TransFusion": TransFusion,
    "VoxelNeXt": VoxelNeXt,
    "VoxelRCNN": VoxelRCNN,
}


def build_detector(
    model_cfg: ConfigDict, num_class: int, dataset: DetectorData
) -> Detector3DTemplate:
    """The detector that MODEL.NAME names; ``dataset`` is a dataset or a DataSpec."""
    if not isinstance(model_cfg, Mapping):
        raise ConfigError(
            f"MODEL is {type(model_cfg).__name__}, expected a block with NAME and the slots' blocks"
        )
    detector = lookup(DETECTORS, required(model_cfg, "NAME", "MODEL"), "MODEL.NAME")
    return detector(model_cfg=model_cfg, num_class=num_class, dataset=dataset)
