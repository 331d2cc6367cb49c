"""Starting a student from its teacher: which channels flow where, what is copied, what is measured, what is refused."""

from __future__ import annotations

import copy
import logging
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from easydict import EasyDict
from small_center import center_config
from small_model import CLASS_NAMES, make_batch, model_config, random_scene, small_model, small_spec
from small_multi_head import multi_model_config
from small_pillarnet import pillarnet_config
from small_point_rcnn import point_batch, point_rcnn_config, small_point_rcnn
from small_second import second_batch, second_config, second_spec, small_second
from small_two_stage import TWO_STAGE_CONFIGS
from torch import nn

from pcdet_distill.checkpoint import save_checkpoint
from pcdet_distill.config import load_config
from pcdet_distill.datasets.spec import DataSpec
from pcdet_distill.distill import build_distiller, student_init
from pcdet_distill.distill.init import InitOptions, StudentInit, init_student
from pcdet_distill.distill.init.layers import in_eval, layers_of, run
from pcdet_distill.distill.init.student import _make_plan as make_plan
from pcdet_distill.distill.init.topology import narrower_layers
from pcdet_distill.distill.init.weights import copy_weights
from pcdet_distill.distill.teacher import Teacher
from pcdet_distill.errors import ConfigError
from pcdet_distill.models import build_network

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


def narrow(config: Any, key: str = "") -> Any:
    """The config with half of every width."""
    if isinstance(config, dict):
        return EasyDict(
            {
                name: narrow(value, name if name in WIDTH_KEYS else "")
                for name, value in config.items()
            }
        )
    if isinstance(config, (list, tuple)):
        return [narrow(value, key) for value in config]
    return max(config // 2, 1) if key and isinstance(config, int) else config


def two_pillar_layers() -> EasyDict:
    config = model_config(8)
    config.VFE["NUM_FILTERS"] = [12, 8]
    return config


def even_pillarnet(backbone: str) -> EasyDict:
    config = pillarnet_config(backbone)
    config.BACKBONE_2D.update(NUM_UPSAMPLE_FILTERS=[6, 4])
    return config


PILLARS, VOXELS = (small_model, make_batch), (small_second, second_batch)
DETECTORS: dict[str, tuple] = {
    "PointPillar": (lambda: model_config(8), *PILLARS),
    "two pillar layers": (two_pillar_layers, *PILLARS),
    "CenterPoint": (center_config, *PILLARS),
    "multi head": (multi_model_config, *PILLARS),
    "PillarNet": (lambda: even_pillarnet("PillarBackBone8x"), *PILLARS),
    "PillarNet, residual": (lambda: even_pillarnet("PillarRes18BackBone8x"), *PILLARS),
    "SECOND": (second_config, *VOXELS),
    "SECOND, residual": (lambda: second_config("VoxelResBackBone8x"), *VOXELS),
    "PointRCNN": (point_rcnn_config, small_point_rcnn, point_batch),
    **{
        name: (TWO_STAGE_CONFIGS[name], *VOXELS) for name in ("SECONDNetIoU", "PVRCNN", "VoxelRCNN")
    },
}
every_detector = pytest.mark.parametrize("name", DETECTORS)


def pair(name: str, share: Any = narrow) -> tuple[nn.Module, nn.Module, list[dict[str, Any]]]:
    """A teacher with statistics of its own, a student with ``share`` of its widths, a batch."""
    config, build, batch_of = DETECTORS[name]
    teacher, student = build(config()), build(share(config()), seed=1)
    generator = torch.Generator().manual_seed(0)
    for layer in layers_of(teacher).values():
        if layer.is_norm:
            for key, low in (
                ("weight", 0.5),
                ("bias", -0.3),
                ("running_mean", -0.1),
                ("running_var", 0.5),
            ):
                getattr(layer.module, key).data.uniform_(low, low + 0.6, generator=generator)
    return teacher, student, [batch_of(SCENES)]


def started(name: str, **options: Any) -> tuple[nn.Module, nn.Module]:
    teacher, student, batches = pair(name)
    init_student(teacher, student, batches, InitOptions(**{"mode": "SLICE", **options}))
    return teacher, student


@every_detector
def test_a_slice_is_the_teacher_with_the_other_channels_silenced(name):
    """The oracle of every connection: a wrong one would show in the predictions."""
    teacher, student, batches = pair(name)
    narrower = narrower_layers(teacher, student)
    with in_eval(teacher), in_eval(student):
        plan, _ = make_plan(teacher, student, narrower, batches[0])
        generator = torch.Generator().manual_seed(3)
        for group in plan.groups:
            total = plan.flows[group].layer.outputs
            plan.keep(
                group,
                torch.randperm(total, generator=generator)[: plan.num_kept(group)].sort().values,
            )
        copy_weights(teacher, student, plan)
        silence(teacher, plan)
        expected, own = run(teacher, batches[0]), run(student, batches[0])
    keys = [
        key
        for key in ("batch_cls_preds", "batch_box_preds", "rois", "final_box_dicts")
        if key in expected
    ]
    assert narrower and keys
    for key in keys:
        torch.testing.assert_close(own[key], expected[key], rtol=1e-4, atol=1e-4)


def silence(teacher: nn.Module, plan: Any) -> None:
    """Make the channels that the plan drops zero behind the norm and the ReLU."""
    modules = list(plan.teacher_layers)
    for name, kept in plan.kept.items():
        follower = (
            modules[modules.index(name) + 1] if modules.index(name) + 1 < len(modules) else name
        )
        layer = plan.teacher_layers[follower if plan.teacher_layers[follower].is_norm else name]
        dropped = torch.ones(layer.outputs, dtype=torch.bool)
        dropped[kept] = False
        layer.module.bias.data[dropped] = 0
        layer.module.weight.data.movedim(layer.out_axis, 0)[dropped] = 0


@every_detector
@pytest.mark.parametrize("mode", ["SLICE", "RECONSTRUCT"])
def test_equal_widths_give_the_teacher_back(name, mode):
    teacher, student, batches = pair(name, share=lambda config: config)
    teacher.global_step += 7
    init_student(teacher, student, batches, InitOptions(mode))
    own = student.state_dict()
    for key, value in teacher.state_dict().items():
        if key != "global_step":
            assert torch.equal(own[key], value), key
    assert int(own["global_step"]) == 0


@pytest.mark.parametrize("name", ["PointPillar", "SECOND", "PointRCNN"])
@pytest.mark.parametrize("mode", ["SLICE", "RECONSTRUCT"])
def test_everybody_is_left_as_before(name, mode):
    teacher, student, batches = pair(name)
    student.train(), teacher.eval()
    before, random = copy.deepcopy(teacher.state_dict()), torch.get_rng_state()
    keys = set(batches[0])
    init_student(teacher, student, batches, InitOptions(mode))
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())
    assert student.training and not teacher.training
    assert not any(
        module._forward_hooks or module._forward_pre_hooks
        for model in (teacher, student)
        for module in model.modules()
    )
    assert torch.equal(torch.get_rng_state(), random) and set(batches[0]) == keys
    assert student(dict(batches[0]))[0]["loss"].isfinite()


@pytest.mark.parametrize("mode", ["SLICE", "RECONSTRUCT"])
def test_the_same_again(mode):
    first, second = (started("PointPillar", mode=mode)[1].state_dict() for _ in range(2))
    assert all(torch.equal(value, second[key]) for key, value in first.items())


def test_input_layers_are_rows_of_the_teachers():
    teacher, student = started("PointPillar")
    theirs, own = (model.vfe.pfn_layers[0] for model in (teacher, student))
    rows = [
        int(torch.nonzero((theirs.linear.weight == row).all(dim=1))) for row in own.linear.weight
    ]
    assert rows == sorted(rows) and len(set(rows)) == 4
    for key in ("weight", "bias", "running_mean", "running_var"):
        assert torch.equal(getattr(own.norm, key), getattr(theirs.norm, key)[rows])
    assert torch.equal(student.dense_head.conv_cls.bias, teacher.dense_head.conv_cls.bias)


@pytest.mark.parametrize("name", ["PointPillar", "two pillar layers", "SECOND", "PVRCNN"])
def test_statistics_are_those_of_the_calibration_frames(name):
    """Measured by torch itself: norms in training mode with momentum 1, on one batch."""
    teacher, student, batches = pair(name)
    init_student(teacher, student, batches, InitOptions("SLICE"))
    measured = {
        key: value.clone() for key, value in student.state_dict().items() if "running" in key
    }
    student.eval()
    copied = {
        "vfe.pfn_layers.0.norm",
        "backbone_3d.conv_input.1",
        *(f"pfe.SA_rawpoints.mlps.{n}.1" for n in (0, 1)),
    }
    for layer in layers_of(student).values():
        if (
            layer.is_norm and layer.name not in copied and "roi_head" not in layer.name
        ):  # proposals are the teacher's
            layer.module.train()
            layer.module.momentum = 1.0
    run(student, batches[0])
    for key, value in student.state_dict().items():
        if key in measured and "roi_head" not in key:
            torch.testing.assert_close(measured[key], value, rtol=1e-3, atol=1e-4)


def test_statistics_over_several_batches_are_pooled():
    teacher, student, _ = pair("PointPillar")
    batches = [make_batch([random_scene(seed)]) for seed in (0, 1)]
    init_student(teacher, student, batches, InitOptions("SLICE"))
    norm, seen = student.backbone_2d.blocks[0][2], []
    student.backbone_2d.blocks[0][1].register_forward_hook(
        lambda _, __, output: seen.append(output)
    )
    student.eval()
    for batch in batches:
        run(student, batch)
    both = torch.cat(seen).transpose(0, 1).flatten(1)
    torch.testing.assert_close(norm.running_mean, both.mean(dim=1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_var, both.var(dim=1), rtol=1e-4, atol=1e-5)


def test_two_steps_of_width():
    """The middle student, once trained, is the teacher of the small one."""
    teacher, middle, batches = pair("SECOND")
    init_student(teacher, middle, batches, InitOptions("SLICE"))
    smallest = small_second(narrow(narrow(second_config())), seed=2)
    init_student(middle, smallest, batches, InitOptions("SLICE"))
    rows = smallest.backbone_3d.conv_input[0].weight
    assert all(
        (middle.backbone_3d.conv_input[0].weight == row).flatten(1).all(dim=1).any() for row in rows
    )


def test_a_middle_student_teaches_by_its_own_config(repo, tmp_path):
    file = repo / "cfgs/synthetic/pointpillar_student_init.yaml"
    widths = {
        "VFE.NUM_FILTERS": [8],
        "MAP_TO_BEV.NUM_BEV_FEATURES": 8,
        "BACKBONE_2D.NUM_FILTERS": [8, 16, 32],
        "BACKBONE_2D.NUM_UPSAMPLE_FILTERS": [16, 16, 16],
    }
    cfg = load_config(
        file, [text for key, value in widths.items() for text in (f"MODEL.{key}", str(value))]
    )
    cfg.DISTILL.TEACHER.CFG_FILE = str(file)
    spec = DataSpec.from_config(cfg.DATA_CONFIG, cfg.CLASS_NAMES)
    middle, smallest = (build_network(config.MODEL, 3, spec) for config in (load_config(file), cfg))
    save_checkpoint({"model_state": middle.state_dict()}, tmp_path / "middle.pth")
    model = build_distiller(cfg, smallest, spec, teacher_ckpt=tmp_path / "middle.pth")
    assert model.student_init.frames == 24 and not model.head.named_terms()
    assert len(narrower_layers(model.teacher.model, model.student)) == 12


# Options


def weights_of(**options: Any) -> torch.Tensor:
    layers = layers_of(started("PointPillar", **options)[1]).values()
    return torch.cat([layer.module.weight.detach().flatten() for layer in layers])


@pytest.mark.parametrize(
    "usual, changed",
    [
        ({}, {"mode": "RECONSTRUCT"}),
        ({}, {"select": "qr"}),
        ({}, {"select": "random"}),
        ({}, {"samples": 3}),
        ({"samples": 3}, {"samples": 3, "seed": 5}),
        ({"select": "random"}, {"select": "random", "seed": 1}),
        (
            {"mode": "RECONSTRUCT", "select": "random"},
            {"mode": "RECONSTRUCT", "select": "random", "samples": 20},
        ),
    ],
)
def test_every_option_matters(usual, changed):
    assert not torch.equal(weights_of(**usual), weights_of(**changed))


def test_a_block_says_every_option():
    block = {"MODE": "RECONSTRUCT", "FRAMES": 3, "SELECT": "qr", "SAMPLES": 50, "SEED": 4}
    assert InitOptions.from_config(block) == InitOptions("RECONSTRUCT", 3, "qr", 50, 4)
    assert InitOptions.from_config("SLICE") == InitOptions("SLICE", 24, "magnitude", 6000, 0)


def test_frames_is_what_the_engine_is_asked_for():
    assert StudentInit(InitOptions("SLICE", frames=7)).frames == 7


def test_start_of_a_distiller_takes_batches_as_they_are_collated(caplog):
    teacher, student, batches = pair("PointPillar")
    plain = [
        {
            key: value.numpy() if isinstance(value, torch.Tensor) else value
            for key, value in batch.items()
        }
        for batch in batches
    ]
    with caplog.at_level(logging.INFO):
        StudentInit(InitOptions("RECONSTRUCT"))(
            student, Teacher(teacher, "train"), plain, logging.getLogger("test")
        )
    assert not any(isinstance(value, torch.Tensor) for value in plain[0].values())
    assert (
        "(RECONSTRUCT, magnitude channels): 7 of 10 layers narrower, 9 layers fitted, R squared median"
        in caplog.text
    ) and "2 frames" in caplog.text
    assert teacher.vfe.pfn_layers[0].norm.training  # MODE: train, as before


# Refusals


def refusal(teacher: nn.Module, student: nn.Module, batch: dict[str, Any] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        init_student(teacher, student, [batch or make_batch(SCENES)], InitOptions("SLICE"))
    assert str(caught.value).startswith("DISTILL.INIT_STUDENT: ")
    return str(caught.value)


def changed_student(change: Any) -> nn.Module:
    config = model_config(4)
    change(config)
    return small_model(config)


@pytest.mark.parametrize(
    "change, words",
    [
        (
            lambda config: config.BACKBONE_2D.update(LAYER_NUMS=[1, 2]),
            "the student has backbone_2d.blocks.1.7 (Conv2d) where the teacher has backbone_2d.deblocks (ModuleList)",
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
            "dense_head.conv_dir_cls, which no other layer reads, has 6 outputs in the student and 12 in the teacher",
        ),
        (
            lambda config: config.DENSE_HEAD.update(USE_DIRECTION_CLASSIFIER=False),
            "the student has no further module where the teacher has dense_head.conv_dir_cls (Conv2d)",
        ),
    ],
)
def test_another_topology(change, words):
    assert words in refusal(small_model(model_config(8)), changed_student(change))


def test_grouped_convolutions_cannot_be_followed():
    teacher = small_second(TWO_STAGE_CONFIGS["PVRCNNPlusPlus"]())
    student = small_second(narrow(TWO_STAGE_CONFIGS["PVRCNNPlusPlus"]()))
    told = refusal(teacher, student, second_batch(SCENES))
    assert (
        "SA_layers.0.layer_0.separate_local_aggregation_layer" in told
        and "use INIT_STUDENT: NONE" in told
    )


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
def test_other_data(attribute, value, words):
    teacher, student = small_model(model_config(8)), small_model(model_config(4))
    teacher.dataset = copy.copy(small_spec())
    setattr(teacher.dataset, attribute, value)
    assert words in refusal(teacher, student)


def test_sums_of_neighbouring_channels():
    teacher = small_second(TWO_STAGE_CONFIGS["PartA2Net"]())
    config = TWO_STAGE_CONFIGS["PartA2Net"]()
    config.BACKBONE_3D.NUM_FILTERS = [8, 16, 32, 32, 64]
    config.MAP_TO_BEV.NUM_BEV_FEATURES = 128
    message = refusal(
        teacher, build_network(config, len(CLASS_NAMES), second_spec()), second_batch(SCENES)
    )
    assert "backbone_3d." in message and "use INIT_STUDENT: NONE" in message


def with_middle(middle: Any) -> tuple[nn.Module, nn.Module]:
    """Two PointPillars with something of one's own between the pillars and the map."""
    found = []
    for width in (8, 4):
        model = small_model(model_config(width))
        model.backbone_2d.blocks[0].insert(0, middle(width))
        found.append(model)
    return found[0], found[1]


class Mixing(nn.Module):
    """Every channel of all channels: nothing that can be followed."""

    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features.softmax(dim=1)


class Scaling(nn.Module):
    """A parameter for every channel, in a module that nobody knows."""

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
    "middle, words",
    [
        (Mixing, "which channels input 0 of backbone_2d.blocks.0.2 is made of cannot be told"),
        (
            Scaling,
            "backbone_2d.blocks.0.0.scale is [4, 1, 1] in the student and [8, 1, 1] in the teacher, and which "
            "channels of a Scaling to keep is not known",
        ),
        (
            Twice,
            "backbone_2d.blocks.0.0.layer runs 2 times in a forward pass, on other channels each time",
        ),
        (
            lambda width: nn.Conv2d(width, width, 1, groups=2),
            "backbone_2d.blocks.0.0.weight is [4, 2, 1, 1] in the student and [8, 4, 1, 1] in the teacher",
        ),
    ],
)
def test_what_cannot_be_followed(middle, words):
    assert words in refusal(*with_middle(middle))


def test_a_layer_that_does_not_run():
    class Idle(nn.Conv2d):
        def __init__(self, width: int) -> None:
            super().__init__(width, width, 1)

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return features

    teacher, student = with_middle(lambda width: nn.ModuleList([nn.Conv2d(width, width, 1)]))
    for model in (teacher, student):
        model.backbone_2d.blocks[0][0].forward = lambda features: features
    assert "backbone_2d.blocks.0.0.0 did not run on the first frames" in refusal(teacher, student)


@pytest.mark.parametrize(
    ("old_name", "new"), [("StudentStart", StudentInit), ("initialise_student", init_student)]
)
def test_old_names_still_work_with_a_warning(old_name: str, new: object) -> None:
    with pytest.warns(DeprecationWarning, match=r"use pcdet_distill\.distill\.init\."):
        assert getattr(student_init, old_name) is new
