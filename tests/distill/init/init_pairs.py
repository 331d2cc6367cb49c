"""Small teachers of every kind, each with a student of half the widths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from easydict import EasyDict
from small_center import center_config
from small_model import make_batch, model_config, random_scene, small_model
from small_multi_head import multi_model_config
from small_pillarnet import pillarnet_config
from small_point_rcnn import point_batch, point_rcnn_config, small_point_rcnn
from small_second import second_batch, second_config, small_second
from small_two_stage import TWO_STAGE_CONFIGS

from pcdet_distill.distill.init import InitOptions, init_student
from pcdet_distill.distill.init.layers import find_layers
from pcdet_distill.models import Detector3DTemplate
from pcdet_distill.types import BatchDict

# Keys of MODEL whose numbers are widths.
WIDTH_KEYS = {
    "NUM_FILTERS",
    "NUM_UPSAMPLE_FILTERS",
    "NUM_BEV_FEATURES",
    "MLPS",
    "FP_MLPS",
    "CLS_FC",
    "REG_FC",
    "IOU_FC",
    "SHARED_FC",
    "XYZ_UP_LAYER",
    "SHARED_CONV_CHANNEL",
    "SHARED_CONV_NUM_FILTER",
    "IN_CHANNEL",
    "NUM_OUTPUT_FEATURES",
}
SCENES = [random_scene(0), random_scene(1)]
# Lowest value of each norm tensor of a teacher; values are spread over the 0.6 above it.
NORM_RANGES = {"weight": 0.5, "bias": -0.3, "running_mean": -0.1, "running_var": 0.5}


class Kind(NamedTuple):
    """A kind of detector."""

    config: Callable[[], EasyDict]
    build: Callable[..., Detector3DTemplate]
    make_batch: Callable[..., BatchDict]


def narrow(config: Any, key: str = "") -> Any:
    """The config with half of every width."""
    if isinstance(config, dict):
        narrowed = EasyDict()
        for name, value in config.items():
            narrowed[name] = narrow(value, name if name in WIDTH_KEYS else "")
        return narrowed
    if isinstance(config, (list, tuple)):
        return [narrow(value, key) for value in config]
    is_width = key != "" and isinstance(config, int)
    return max(config // 2, 1) if is_width else config


def two_pillar_layers() -> EasyDict:
    config = model_config(8)
    config.VFE["NUM_FILTERS"] = [12, 8]
    return config


def even_pillarnet(backbone: str) -> EasyDict:
    config = pillarnet_config(backbone)
    config.BACKBONE_2D.update(NUM_UPSAMPLE_FILTERS=[6, 4])
    return config


def on_pillars(config: Callable[[], EasyDict]) -> Kind:
    return Kind(config, small_model, make_batch)


def on_voxels(config: Callable[[], EasyDict]) -> Kind:
    return Kind(config, small_second, second_batch)


DETECTORS: dict[str, Kind] = {
    "PointPillar": on_pillars(lambda: model_config(8)),
    "two pillar layers": on_pillars(two_pillar_layers),
    "CenterPoint": on_pillars(center_config),
    "multi head": on_pillars(multi_model_config),
    "PillarNet": on_pillars(lambda: even_pillarnet("PillarBackBone8x")),
    "PillarNet, residual": on_pillars(lambda: even_pillarnet("PillarRes18BackBone8x")),
    "SECOND": on_voxels(second_config),
    "SECOND, residual": on_voxels(lambda: second_config("VoxelResBackBone8x")),
    "PointRCNN": Kind(point_rcnn_config, small_point_rcnn, point_batch),
    "SECONDNetIoU": on_voxels(TWO_STAGE_CONFIGS["SECONDNetIoU"]),
    "PVRCNN": on_voxels(TWO_STAGE_CONFIGS["PVRCNN"]),
    "VoxelRCNN": on_voxels(TWO_STAGE_CONFIGS["VoxelRCNN"]),
}
every_detector = pytest.mark.parametrize("name", DETECTORS)


def make_pair(
    name: str, narrow_config: Callable[[EasyDict], EasyDict] = narrow
) -> tuple[Detector3DTemplate, Detector3DTemplate, list[BatchDict]]:
    """A teacher whose norms are not those of a new one, its student, and one batch."""
    kind = DETECTORS[name]
    teacher = kind.build(kind.config())
    student = kind.build(narrow_config(kind.config()), seed=1)
    generator = torch.Generator().manual_seed(0)
    for layer in find_layers(teacher).values():
        if layer.is_norm:
            for key, low in NORM_RANGES.items():
                getattr(layer.module, key).data.uniform_(low, low + 0.6, generator=generator)
    return teacher, student, [kind.make_batch(SCENES)]


def initialised_pair(
    name: str, **options: str | int
) -> tuple[Detector3DTemplate, Detector3DTemplate]:
    """A teacher, and its student after ``init_student``; the mode is SLICE by default."""
    teacher, student, batches = make_pair(name)
    all_options: dict[str, Any] = {"mode": "SLICE", **options}
    init_student(teacher, student, batches, InitOptions(**all_options))
    return teacher, student
