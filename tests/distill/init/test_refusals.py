"""Students that INIT_STUDENT refuses: each message names the first difference or the layer."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from easydict import EasyDict
from init_pairs import SCENES, narrow
from small_model import CLASS_NAMES, make_batch, model_config, small_model, small_spec
from small_second import second_batch, second_spec, small_second
from small_two_stage import TWO_STAGE_CONFIGS
from torch import nn

from pcdet_distill.distill.init import InitOptions, init_student
from pcdet_distill.errors import ConfigError
from pcdet_distill.models import Detector3DTemplate, build_network
from pcdet_distill.types import BatchDict


def refusal(
    teacher: Detector3DTemplate, student: Detector3DTemplate, batch: BatchDict | None = None
) -> str:
    """The message with which the pair is refused."""
    with pytest.raises(ConfigError) as caught:
        init_student(teacher, student, [batch or make_batch(SCENES)], InitOptions("SLICE"))
    assert str(caught.value).startswith("DISTILL.INIT_STUDENT: ")
    return str(caught.value)


def changed_student(change: Callable[[EasyDict], None]) -> Detector3DTemplate:
    config = model_config(4)
    change(config)
    return small_model(config)


@pytest.mark.parametrize(
    "change, words",
    [
        (
            lambda config: config.BACKBONE_2D.update(LAYER_NUMS=[1, 2]),
            "the student has backbone_2d.blocks.1.7 (Conv2d) where the teacher has "
            "backbone_2d.deblocks (ModuleList)",
        ),
        (
            lambda config: config.BACKBONE_2D.update(
                LAYER_STRIDES=[1, 2], UPSAMPLE_STRIDES=[0.5, 1]
            ),
            "backbone_2d.blocks.0.1 has stride (1, 1) in the student and (2, 2) in the teacher",
        ),
        (
            lambda config: config.BACKBONE_2D.update(NUM_FILTERS=[4, 32]),
            "backbone_2d.blocks.1.1 has 32 outputs in the student and only 16 in the teacher",
        ),
        (
            lambda config: config.VFE.update(USE_NORM=False),
            "vfe.pfn_layers.0.linear has a bias in the student and none in the teacher",
        ),
        (
            lambda config: config.VFE.update(WITH_DISTANCE=True),
            "vfe.pfn_layers.0.linear has 11 inputs in the student and only 10 in the teacher",
        ),
        (
            lambda config: config.DENSE_HEAD.update(NUM_DIR_BINS=1),
            "dense_head.conv_dir_cls, which no other layer reads, has 6 outputs in the student "
            "and 12 in the teacher",
        ),
        (
            lambda config: config.DENSE_HEAD.update(USE_DIRECTION_CLASSIFIER=False),
            "the student has no further module where the teacher has dense_head.conv_dir_cls "
            "(Conv2d)",
        ),
    ],
)
def test_another_topology(change: Callable[[EasyDict], None], words: str) -> None:
    assert words in refusal(small_model(model_config(8)), changed_student(change))


def test_grouped_convolutions() -> None:
    config = TWO_STAGE_CONFIGS["PVRCNNPlusPlus"]
    teacher = small_second(config())
    student = small_second(narrow(config()))
    message = refusal(teacher, student, second_batch(SCENES))
    assert "SA_layers.0.layer_0.separate_local_aggregation_layer" in message
    assert "use INIT_STUDENT: NONE" in message


@pytest.mark.parametrize(
    "attribute, value, words",
    [
        (
            "class_names",
            ["Car"],
            "the teacher has the classes ['Car'], the student ['Car', 'Pedestrian', 'Cyclist']",
        ),
        (
            "voxel_size",
            [0.4, 0.4, 4],
            "the voxel size [0.4, 0.4, 4.0], the student [0.5, 0.5, 4.0]",
        ),
        (
            "point_feature_encoder",
            SimpleNamespace(used_feature_list=["x", "y", "z"]),
            "the point features ['x', 'y', 'z']",
        ),
        ("point_cloud_range", [0, 0, 0, 1, 1, 1], "the range [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]"),
    ],
)
def test_other_data(attribute: str, value: object, words: str) -> None:
    teacher = small_model(model_config(8))
    student = small_model(model_config(4))
    teacher.dataset = copy.copy(small_spec())
    setattr(teacher.dataset, attribute, value)
    assert words in refusal(teacher, student)


def test_sums_of_different_channel_numbers() -> None:
    teacher = small_second(TWO_STAGE_CONFIGS["PartA2Net"]())
    config = TWO_STAGE_CONFIGS["PartA2Net"]()
    config.BACKBONE_3D.NUM_FILTERS = [8, 16, 32, 32, 64]
    config.MAP_TO_BEV.NUM_BEV_FEATURES = 128
    student = build_network(config, len(CLASS_NAMES), second_spec())
    message = refusal(teacher, student, second_batch(SCENES))
    assert "backbone_3d." in message
    assert "use INIT_STUDENT: NONE" in message


def pillar_models_with(
    make_module: Callable[[int], nn.Module],
) -> tuple[Detector3DTemplate, Detector3DTemplate]:
    """Two PointPillars with a foreign module between the pillars and the first block."""
    models = []
    for width in (8, 4):
        model = small_model(model_config(width))
        model.backbone_2d.blocks[0].insert(0, make_module(width))
        models.append(model)
    return models[0], models[1]


class Mixing(nn.Module):
    """Every output channel depends on all input channels."""

    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features.softmax(dim=1)


class Scaling(nn.Module):
    """A module of unknown class with a parameter per channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width, 1, 1))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features * self.scale


class Twice(nn.Module):
    """One layer that runs twice, the second time on the other half of the channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(width // 2, width // 2, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        first, second = features.chunk(2, dim=1)
        return torch.cat([self.layer(first), self.layer(second)], dim=1)


@pytest.mark.parametrize(
    "make_module, words",
    [
        (Mixing, "cannot find out which channels input 0 of backbone_2d.blocks.0.2 is made of"),
        (
            Scaling,
            "backbone_2d.blocks.0.0.scale is [4, 1, 1] in the student and [8, 1, 1] in the "
            "teacher, and which channels of a Scaling to keep is unknown",
        ),
        (
            Twice,
            "backbone_2d.blocks.0.0.layer runs 2 times in a forward pass, on other channels "
            "each time",
        ),
        (
            lambda width: nn.Conv2d(width, width, 1, groups=2),
            "backbone_2d.blocks.0.0.weight is [4, 2, 1, 1] in the student and [8, 4, 1, 1] in "
            "the teacher",
        ),
    ],
)
def test_modules_whose_channels_cannot_be_traced(
    make_module: Callable[[int], nn.Module], words: str
) -> None:
    assert words in refusal(*pillar_models_with(make_module))


def test_a_layer_that_does_not_run() -> None:
    def idle(width: int) -> nn.Module:
        return nn.ModuleList([nn.Conv2d(width, width, 1)])

    teacher, student = pillar_models_with(idle)
    for model in (teacher, student):
        module: Any = model.backbone_2d.blocks[0][0]
        module.forward = lambda features: features
    assert "backbone_2d.blocks.0.0.0 did not run on the first frames" in refusal(teacher, student)
