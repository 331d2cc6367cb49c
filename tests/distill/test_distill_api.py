"""distill(): around detectors that only have a forward."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from toy_detectors import SPEC, ToyDetector, toy_batch

from pcdet_distill.distill import Teacher, VoxelSpace, distill
from pcdet_distill.errors import ConfigError

SPACE = VoxelSpace([0.5, 0.5, 4.0], [0.0, -4.0, -3.0, 8.0, 4.0, 1.0], ["Car"])
PILLARS = {
    "NAME": "GraphDistillLoss",
    "STUDENT": "encoder@pillars",
    "TEACHER": "encoder@pillars",
    "NUM_NODES": 20,
    "NUM_NEIGHBORS": 4,
    "EMBED_DIM": 8,
}
MAPS = {
    "NAME": "GraphDistillLoss",
    "STUDENT": "neck",
    "TEACHER": "neck",
    "NUM_NODES": 10,
    "NUM_NEIGHBORS": 4,
    "SCORE": "channel_max",
}


class Encoder(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.linear = nn.Linear(4, channels)

    def forward(self, batch_dict):
        batch_dict["pillars"] = self.linear(batch_dict["voxels"].mean(1)).relu()
        return batch_dict


class OwnDetector(nn.Module):
    """A detector of a user: no taps, no run_modules, no checkpoint_state, names of its own."""

    def __init__(self, channels, seed=0, stride=2):
        torch.manual_seed(seed)
        super().__init__()
        self.encoder = Encoder(channels)
        self.neck = nn.Sequential(
            nn.Conv2d(channels, 2 * channels, 3, stride=stride, padding=1),
            nn.BatchNorm2d(2 * channels),
            nn.ReLU(),
        )
        self.score = nn.Conv2d(2 * channels, 1, 1)

    def forward(self, batch_dict):
        batch_dict = self.encoder(batch_dict)
        coords = batch_dict["voxel_coords"].long()
        canvas = batch_dict["pillars"].new_zeros(
            batch_dict["batch_size"], 16, 16, batch_dict["pillars"].shape[1]
        )
        canvas[coords[:, 0], coords[:, 2], coords[:, 3]] = batch_dict["pillars"]
        scores = self.score(self.neck(canvas.permute(0, 3, 1, 2)))
        if self.training:
            return {"loss": scores.square().mean()}, {"loss_rpn": 1.0}, {}
        return [{"pred_scores": frame.flatten()} for frame in scores], {}


def tap_block(path, **block):
    return {"PATH": path, **block}


def with_sides(term, student, teacher=None):
    return {**term, "STUDENT": student, "TEACHER": teacher or student}


def test_a_batch_shows_what_the_paths_leave_open():
    student = OwnDetector(4, 1)
    teacher = OwnDetector(6, 2)
    student.neck.eval()
    modes = [module.training for module in student.modules()]
    state = copy.deepcopy(student.state_dict())
    model = distill(
        student,
        teacher,
        {"PILLARS": PILLARS, "MAPS": MAPS},
        student_data=SPACE,
        example_batch=toy_batch(),
    )
    sides = {
        name: (term.student.info, term.teacher.info) for name, term in model.head.named_terms()
    }
    assert [(tap.kind, tap.channels, tap.stride) for tap in sides["PILLARS"]] == [
        ("voxel", 4, 1),
        ("voxel", 6, 1),
    ]
    assert [(tap.kind, tap.channels, tap.stride) for tap in sides["MAPS"]] == [
        ("bev", 8, 2),
        ("bev", 12, 2),
    ]
    assert [module.training for module in student.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in student.state_dict().items())


def test_a_block_tells_it_without_a_batch():
    voxels = tap_block("encoder@pillars", KIND="voxel")
    maps = tap_block("neck", KIND="bev", STRIDE=2)
    terms = {
        "PILLARS": with_sides(PILLARS, {**voxels, "CHANNELS": 4}, {**voxels, "CHANNELS": 6}),
        "MAPS": with_sides(MAPS, {**maps, "CHANNELS": 8}, {**maps, "CHANNELS": 12}),
    }
    model = distill(OwnDetector(4, 1), OwnDetector(6, 2), terms, student_data=SPACE).train()
    ret, tb, _ = model(toy_batch())
    ret["loss"].backward()
    assert {"loss_rpn", "distill_pillars", "distill_maps"} <= set(tb)
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert isinstance(terms["MAPS"]["STUDENT"], dict)  # the user's terms stay as they are


def test_a_block_has_precedence_over_the_batch():
    """A map whose cells are not aligned with voxels has no stride to be seen."""
    terms = {"MAPS": with_sides(MAPS, tap_block("neck", STRIDE=3))}
    model = distill(
        OwnDetector(4, 1, stride=4),
        OwnDetector(6, 2, stride=4),
        terms,
        student_data=SPACE,
        example_batch=toy_batch(),
    )
    assert model.head.terms["MAPS"].student.info.stride == 3


def test_training_makes_the_student_alike_and_leaves_the_teacher():
    student = OwnDetector(4, 1)
    teacher = OwnDetector(6, 2)
    before = copy.deepcopy(teacher.state_dict())
    terms = {"PILLARS": {**PILLARS, "TEACHER_ADAPTER": "frozen"}}
    model = distill(student, teacher, terms, student_data=SPACE, example_batch=toy_batch).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(40):
        ret, tb, _ = model(toy_batch())
        optimizer.zero_grad()
        ret["loss"].backward()
        optimizer.step()
        losses.append(float(tb["distill_pillars"]))
    assert losses[-1] < 0.7 * losses[0]
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert model.student is student
    assert torch.equal(
        model.eval()(toy_batch())[0][0]["pred_scores"],
        student.eval()(toy_batch())[0][0]["pred_scores"],
    )


def test_the_teacher_stops_at_its_last_tap():
    teacher = OwnDetector(6, 2)
    ran = []
    teacher.score.register_forward_hook(lambda *_: ran.append(True))
    model = distill(
        OwnDetector(4, 1), teacher, {"MAPS": MAPS}, student_data=SPACE, example_batch=toy_batch()
    ).train()
    model(toy_batch())
    assert not ran


def test_checkpoint_and_resume_of_a_detector_without_either():
    def made():
        return distill(
            OwnDetector(4, 1),
            OwnDetector(6, 2),
            {"MAPS": MAPS},
            student_data=SPACE,
            example_batch=toy_batch(),
        ).train()

    model = made()
    fresh = made()
    model(toy_batch())
    model.update_global_step()
    state = model.checkpoint_state()
    assert set(state["model_state"]) == set(OwnDetector(4).state_dict())
    for value in fresh.state_dict().values():
        value.zero_()
    fresh.load_checkpoint_state(state, "state.pth")
    assert all(
        torch.equal(value, fresh.state_dict()[name]) for name, value in model.state_dict().items()
    )


def test_detectors_of_this_package_need_neither_batch_nor_block():
    term = {**PILLARS, "STUDENT": "vfe@pillar_features", "TEACHER": "vfe@pillar_features"}
    model = distill(ToyDetector(4, 1), ToyDetector(8, 2), {"LOCAL": term}).train()
    assert model.head.terms["LOCAL"].teacher.info.channels == 8
    assert model(toy_batch())[1]["distill_local"] > 0


def test_teacher_mode_and_a_teacher_made_before():
    terms = {
        "LOCAL": {**PILLARS, "STUDENT": "vfe@pillar_features", "TEACHER": "vfe@pillar_features"}
    }
    assert (
        distill(ToyDetector(4), ToyDetector(8), terms, teacher_mode="train").teacher.mode == "train"
    )
    teacher = Teacher(ToyDetector(8))
    assert distill(ToyDetector(4), teacher, terms).teacher is teacher
    with pytest.raises(ConfigError, match="unknown value 'evall'"):
        distill(ToyDetector(4), ToyDetector(8), terms, teacher_mode="evall")


def test_classes_are_matched_by_name():
    def space(*names):
        return VoxelSpace([0.5, 0.5, 4.0], [0.0, -4.0, -3.0, 8.0, 4.0, 1.0], names)

    def model(teacher_data):
        return distill(
            OwnDetector(4),
            OwnDetector(6),
            {"MAPS": MAPS},
            student_data=space("Car", "Van"),
            teacher_data=teacher_data,
            example_batch=toy_batch(),
        )

    assert model(space("Car", "Van")).teacher.classes is None
    assert model(space("Van", "Car")).teacher.classes.student_labels(
        torch.tensor([1, 2])
    ).tolist() == [2, 1]
    with pytest.raises(ConfigError, match="the teacher's classes are Bus"):
        model(space("Bus"))


def test_points_and_sparse_tensors_are_recognised():
    class Sparse:
        def __init__(self, features, indices, spatial_shape):
            self.features = features
            self.indices = indices
            self.spatial_shape = spatial_shape

    class Backbone(nn.Module):
        def forward(self, batch_dict):
            coords = batch_dict["voxel_coords"].int()
            indices = torch.unique(torch.cat([coords[:, :2], coords[:, 2:] // 4], dim=1), dim=0)
            batch_dict["sparse"] = Sparse(torch.randn(len(indices), 5), indices, [1, 4, 4])
            batch_dict["point_coords"] = torch.rand(50, 4)
            batch_dict["points"] = batch_dict["point_features"] = torch.randn(50, 3)
            return batch_dict

    class Detector(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = Backbone()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, batch_dict):
            self.backbone(batch_dict)
            return {"loss": self.weight.sum()}, {}, {}

    terms = {
        "CELLS": with_sides(PILLARS, "backbone@sparse"),
        "POINTS": with_sides(PILLARS, "backbone@point_features"),
    }
    model = distill(Detector(), Detector(), terms, student_data=SPACE, example_batch=toy_batch())
    taps = [term.student.info for _, term in model.head.named_terms()]
    assert [(tap.kind, tap.channels, tap.stride) for tap in taps] == [
        ("sparse", 5, 4),
        ("point", 3, None),
    ]


def test_a_tap_of_class_scores_may_be_a_block():
    term = {**MAPS, "SCORE": "objectness", "SCORE_TAP": "score"}
    model = distill(
        OwnDetector(4),
        OwnDetector(6),
        {"MAPS": term},
        student_data=SPACE,
        example_batch=toy_batch(),
    )
    assert model.train()(toy_batch())[1]["distill_maps"] > 0
    term = {**term, "SCORE_TAP": tap_block("score", KIND="bev", CHANNELS=1, STRIDE=2)}
    side = (
        distill(
            OwnDetector(4),
            OwnDetector(6),
            {"MAPS": term},
            student_data=SPACE,
            example_batch=toy_batch(),
        )
        .head.terms["MAPS"]
        .teacher
    )
    assert list(side.paths) == ["neck", "score"]


def refusal(term=MAPS, **arguments):
    with pytest.raises(ConfigError) as error:
        distill(
            OwnDetector(4),
            OwnDetector(6),
            {"T": term} if term else term,
            **{"student_data": SPACE, "example_batch": toy_batch, **arguments},
        )
    return str(error.value)


@pytest.mark.parametrize(
    "term, words",
    [
        (with_sides(MAPS, "nick"), ["tap 'nick'", "did you mean 'neck'"]),
        (
            with_sides(MAPS, tap_block("neck", KIND="map")),
            ["T.STUDENT.KIND: unknown value 'map'", "bev"],
        ),
        (
            with_sides(MAPS, tap_block("neck", CHANELS=3)),
            ["T.STUDENT: unknown key 'CHANELS'; did you mean 'CHANNELS'"],
        ),
        (
            with_sides(MAPS, tap_block("neck", STRIDE=0)),
            ["T.STUDENT.STRIDE: expected a whole number from 1 up, found 0"],
        ),
        (
            with_sides(MAPS, {"KIND": "bev"}),
            ["T.STUDENT: expected a tap path", "a block with PATH"],
        ),
        (with_sides(MAPS, 3), ["T.STUDENT: expected a tap path", "found 3"]),
        (
            with_sides(MAPS, "encoder@voxel_num_points"),
            ["T.STUDENT: a tensor (80,) is neither a map"],
        ),
        (with_sides(MAPS, "neck", "encoder@pillars"), ["DISTILL.TERMS.T", "bev features", "voxel"]),
        ({**MAPS, "NAME": "GraphLoss"}, ["T.NAME: unknown name 'GraphLoss'"]),
        ({"NAME": "GraphDistillLoss"}, ["T: key STUDENT is missing"]),
        (7, ["T: expected a name in capitals and a block of keys"]),
        ({}, ["distill: expected at least one term"]),
    ],
)
def test_wrong_terms_are_one_sentence(term, words):
    message = refusal(term)
    for word in words:
        assert word in message


def test_missing_knowledge_is_one_sentence():
    assert (
        "T.STUDENT: the student does not publish what 'neck' gives; write {PATH: neck"
        in refusal(example_batch=None)
    )
    assert "T.STUDENT: without the voxels of its data the stride of a map is not known" in refusal(
        student_data=None
    )
    nothing = torch.utils.data.TensorDataset(torch.zeros(1))
    assert "without the voxels of its data" in refusal(student_data=nothing)
    coarse = VoxelSpace([0.3, 0.5, 4.0], [0.0, -4.0, -3.0, 8.1, 4.0, 1.0])
    assert "a map of 8 x 8 cells does not divide the 27 x 16 voxels evenly" in refusal(
        student_data=coarse
    )


@pytest.mark.parametrize(
    "size, limits, words",
    [
        ([0.5, 0.5], SPEC.point_cloud_range, "voxel_size .* is not three lengths"),
        ([0.5, 0.0, 4.0], SPEC.point_cloud_range, "is not three lengths"),
        ([0.5, 0.5, 4.0], [0, 0, 0, 8, -4, 1], "point_cloud_range .* is not x, y, z minimum"),
    ],
)
def test_voxel_space_refuses(size, limits, words):
    with pytest.raises(ConfigError, match=words):
        VoxelSpace(size, limits)
