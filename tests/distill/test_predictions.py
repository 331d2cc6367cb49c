"""Predictions of every head: decoded as the head decodes them, matched by place and class."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from small_center import center_config
from small_model import CLASS_NAMES, make_batch, model_config, random_scene, small_model, small_spec
from small_multi_head import multi_model_config
from small_point_rcnn import point_batch, point_spec, small_point_rcnn, two_scenes

from pcdet_distill.distill.prediction_input import PredictionInput
from pcdet_distill.distill.prediction_readers import prediction_reader
from pcdet_distill.distill.predictions import ABSENT_LOGIT
from pcdet_distill.distill.term_inputs import TapSource
from pcdet_distill.errors import ConfigError
from pcdet_distill.models import build_network
from pcdet_distill.models.taps import capture


def source(model, role="student", spec=None):
    return TapSource.of(role, model, spec or model.dataset)


def observed(model, batch, slot="dense_head"):
    """Reader, captured features, and the batch after an eval pass without post-processing."""
    reader = prediction_reader(source(model), slot, "T.STUDENT")
    batch = dict(batch)
    with torch.no_grad(), capture(model.eval(), reader.paths) as features:
        batch = model.run_modules(batch)
    return reader, features, batch


def scenes():
    return make_batch([random_scene(0), random_scene(1)])


@pytest.mark.parametrize("config", [model_config, multi_model_config])
def test_anchor_heads_decode_as_they_do(config):
    model = small_model(config())
    torch.nn.init.normal_(
        model.dense_head.conv_dir_cls.weight
        if config is model_config
        else model.dense_head.rpn_heads[0].conv_dir_cls.weight
    )
    reader, features, batch = observed(model, scenes())
    found = reader.read(features, batch)
    frames, anchors = batch["batch_box_preds"].shape[:2]
    assert len(found) == frames * anchors
    assert found.batch_index.tolist() == [0] * anchors + [1] * anchors
    torch.testing.assert_close(found.boxes(), batch["batch_box_preds"].flatten(0, 1))
    torch.testing.assert_close(found.coords[:anchors], model.dense_head.flat_anchors[:, :3])
    rows = torch.tensor([5, 2, anchors + 3])
    torch.testing.assert_close(found.select(rows).boxes(), found.boxes()[rows])
    published = batch["batch_cls_preds"]
    if config is model_config:
        torch.testing.assert_close(found.logits, published.flatten(0, 1))
    else:
        start = 0
        for head, logits in zip(model.dense_head.rpn_heads, published):
            own = found.logits.view(frames, anchors, 3)[:, start : start + logits.shape[1]]
            torch.testing.assert_close(own[..., head.head_label_indices - 1], logits)
            assert own.sigmoid().sum(dim=-1).sub(logits.sigmoid().sum(dim=-1)).abs().max() < 1e-6
            start += logits.shape[1]


def test_centre_head_decodes_as_it_does():
    model = small_model(center_config([["Car"], ["Pedestrian", "Cyclist"]]))
    reader, features, batch = observed(model, scenes())
    found = reader.read(features, batch)
    assert found.logits.shape == (2 * 2 * 256, 3)
    boxes = found.boxes()
    scores = found.logits.sigmoid()
    for frame, final in enumerate(batch["final_box_dicts"]):
        own = boxes[found.batch_index == frame]
        own_scores = scores[found.batch_index == frame]
        assert len(final["pred_boxes"]) > 3
        for box, score, label in zip(
            final["pred_boxes"], final["pred_scores"], final["pred_labels"]
        ):
            row = (own - box).abs().amax(dim=1).argmin()
            torch.testing.assert_close(own[row], box)
            torch.testing.assert_close(own_scores[row, label - 1], score)
    corner = found.coords[:3]
    torch.testing.assert_close(
        corner, torch.tensor([[0.5, -7.5, 0], [1.5, -7.5, 0], [2.5, -7.5, 0]])
    )


def test_point_head_decodes_as_it_does():
    model = small_point_rcnn()
    reader = prediction_reader(source(model), "point_head", "T")
    batch = point_batch(two_scenes())
    with torch.no_grad(), capture(model.eval(), reader.paths) as features:
        batch = model.run_modules(batch, until="point_head")
    found = reader.read(features, batch)
    torch.testing.assert_close(found.logits, batch["batch_cls_preds"])
    torch.testing.assert_close(found.boxes(), batch["batch_box_preds"])
    torch.testing.assert_close(found.coords, batch["point_coords"][:, 1:4])


@pytest.mark.parametrize("config", [model_config, multi_model_config, center_config])
def test_codes_are_restored_from_boxes(config):
    """A code encoded again at its own position is the same code."""
    model = small_model(config())
    reader, features, batch = observed(model, scenes())
    found = reader.read(features, batch)
    boxes = found.form.decode(found.codes, found.references, found.logits, None)
    again = found.form.encode(boxes, found.references, found.logits)
    if config is center_config:
        unit = found.codes[:, 6:8] / found.codes[:, 6:8].norm(dim=1, keepdim=True)
        found.codes[:, 6:8] = unit
    torch.testing.assert_close(again, found.codes, atol=1e-4, rtol=1e-4)
    assert found.codes_like(found) is found.codes


def pair(student, teacher, **changes):
    cfg = {"NAME": "LogitBoxLoss", "STUDENT": "dense_head", "TEACHER": "dense_head", **changes}
    return PredictionInput.pair(cfg, source(student), source(teacher, "teacher"), "T")


def matched(student, teacher, batch):
    own, theirs = pair(student, teacher)
    with torch.no_grad(), capture(student.eval(), own.paths) as own_features:
        student.run_modules(dict(batch))
    with torch.no_grad(), capture(teacher.eval(), theirs.paths) as their_features:
        teacher.run_modules(dict(batch))
    return own.match(
        own.read(own_features, batch, detached=False),
        theirs.read(their_features, batch, detached=True),
    )


def reordered(names, seed=0):
    """The small detector with its classes in another order, in data and anchors."""
    config = model_config()
    by_name = {entry["class_name"]: entry for entry in config.DENSE_HEAD.ANCHOR_GENERATOR_CONFIG}
    config.DENSE_HEAD.ANCHOR_GENERATOR_CONFIG = [by_name[name] for name in names]
    torch.manual_seed(seed)
    return build_network(
        config, len(names), dataclasses.replace(small_spec(), class_names=list(names))
    )


def test_same_heads_share_all_rows():
    own, theirs = pair(small_model(), small_model(seed=1))
    assert own.rows is None
    assert theirs.rows is None
    assert theirs.columns is None
    first, second = matched(small_model(), small_model(seed=1), scenes())
    assert len(first) == len(second) == 2 * 16 * 16 * 6
    assert not torch.equal(first.logits, second.logits)


def test_classes_are_matched_by_name():
    """A teacher with the same weights but another order of classes gives the same rows."""
    student = small_model()
    names = ["Cyclist", "Car", "Pedestrian"]
    teacher = reordered(names)
    state = student.state_dict()
    class_order = [CLASS_NAMES.index(name) for name in names]
    anchor_order = []  # two rotations of each class
    for number in class_order:
        anchor_order += [2 * number, 2 * number + 1]
    for layer, width in (("conv_cls", 3), ("conv_box", 7), ("conv_dir_cls", 2)):
        for part in ("weight", "bias"):
            value = torch.randn_like(state[f"dense_head.{layer}.{part}"])
            by_anchor = value.view(6, width, *value.shape[1:])[anchor_order]
            state[f"dense_head.{layer}.{part}"] = value
            if layer == "conv_cls":
                by_anchor = by_anchor[:, class_order]
            getattr(teacher.dense_head, layer).get_parameter(part).data = by_anchor.reshape(
                value.shape
            ).clone()
    student.load_state_dict(state)
    body = {key: value for key, value in state.items() if not key.startswith("dense_head")}
    teacher.load_state_dict(body, strict=False)
    own, theirs = matched(student, teacher, scenes())
    assert len(own) == 2 * 16 * 16 * 6
    for mine, other in (
        (own.logits, theirs.logits),
        (own.codes, theirs.codes),
        (own.boxes(), theirs.boxes()),
    ):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-4)


def test_classes_that_only_one_side_predicts_are_left_out():
    student = reordered(["Cyclist", "Car"])
    teacher = small_model()
    own, theirs = matched(student, teacher, scenes())
    assert own.logits.shape == theirs.logits.shape == (2 * 16 * 16 * 4, 2)
    own, theirs = matched(teacher, student, scenes())  # the student's pedestrians have no teacher
    silent = CLASS_NAMES.index("Pedestrian")
    assert len(own) == len(theirs) == 2 * 16 * 16 * 4
    for side in (own, theirs):
        assert (side.logits[:, silent] == ABSENT_LOGIT).all()
        assert not (
            side.logits[:, [number for number in range(3) if number != silent]] == ABSENT_LOGIT
        ).any()


def test_no_class_in_common():
    with pytest.raises(
        ConfigError, match="T: the student predicts Cyclist, the teacher Car: no class in common"
    ):
        pair(reordered(["Cyclist"]), reordered(["Car"]))


def test_finer_anchors_of_the_teacher():
    """Each takes the nearest of its kind; the box is then encoded at the student's anchor."""
    config = model_config()
    config.BACKBONE_2D.UPSAMPLE_STRIDES = [2, 4]
    for entry in config.DENSE_HEAD.ANCHOR_GENERATOR_CONFIG:
        entry["feature_map_stride"] = 1
    student = small_model()
    teacher = small_model(config, seed=1)
    own, theirs = matched(student, teacher, scenes())
    assert len(own) == 2 * 16 * 16 * 6
    torch.testing.assert_close(own.references[:, 2:], theirs.references[:, 2:])
    apart = (own.references[:, :2] - theirs.references[:, :2]).abs()
    assert 0.05 < apart.max() <= 16 / 15 / 2
    codes = theirs.codes_like(own)
    assert not torch.allclose(codes, theirs.codes)
    boxes = own.form.decode(codes, own.references, own.logits, None)
    torch.testing.assert_close(boxes[:, :6], theirs.boxes()[:, :6], atol=1e-4, rtol=1e-4)


def test_centre_groups_are_matched_by_their_classes():
    student = small_model(center_config([["Car"], ["Pedestrian", "Cyclist"]]))
    teacher = small_model(center_config([["Pedestrian", "Cyclist"], ["Car"]]), seed=1)
    own, theirs = matched(student, teacher, scenes())
    assert len(own) == 2 * 2 * 256
    torch.testing.assert_close(own.references, theirs.references)
    assert torch.equal(own.logits == -30, theirs.logits == -30)
    assert (own.logits == -30).any()
    with pytest.raises(ConfigError, match="no prediction of dense_head has a counterpart"):
        pair(student, small_model(center_config()))


def test_several_heads_against_one():
    """A head of some classes learns only these; a head of all learns that others are absent."""
    several = small_model(multi_model_config())
    single = small_model()
    own, theirs = matched(several, single, scenes())
    assert len(own) == 2 * 16 * 16 * 6
    assert torch.equal(own.logits == -30, theirs.logits == -30)
    assert (own.logits == -30).sum() == 2 * len(own)
    own, theirs = matched(single, several, scenes())
    assert (own.logits == -30).sum() == 0
    assert (theirs.logits == -30).sum() == 2 * len(own)


def test_points_are_matched_by_place():
    model = small_point_rcnn()
    cfg = {"NAME": "LogitBoxLoss", "STUDENT": "point_head", "TEACHER": "point_head"}
    own, theirs = PredictionInput.pair(
        cfg, source(model, spec=point_spec()), source(model, spec=point_spec()), "T"
    )
    batch = point_batch(two_scenes())
    with torch.no_grad(), capture(model.eval(), own.paths) as features:
        batch = model.run_modules(batch, until="point_head")
    first = own.read(features, batch, detached=False)
    order = torch.randperm(len(first))
    shuffled = {path: feature[order] for path, feature in features.items()}
    second = theirs.read(shuffled, {"point_coords": batch["point_coords"][order]}, detached=True)
    one, other = own.match(first, second)
    torch.testing.assert_close(one.coords, other.coords, atol=0.1, rtol=0)
    far = torch.cdist(first.coords, first.coords).fill_diagonal_(9).amin(dim=1) > 0.2
    assert len(one) == len(first)
    assert far.any()
    torch.testing.assert_close(one.logits[far], other.logits[far])


@pytest.mark.parametrize(
    "change, words",
    [
        (
            {"STUDENT": "dense_heads"},
            ["T.STUDENT: the student has no head 'dense_heads'", "did you mean 'dense_head'"],
        ),
        ({"TEACHER": "point_head"}, ["T.TEACHER: the teacher has no head 'point_head'"]),
        ({"NODES": "bev"}, ["T.NODES", "LogitBoxLoss compares predictions"]),
    ],
)
def test_refused(change, words):
    with pytest.raises(ConfigError) as error:
        pair(small_model(), small_model(), **change)
    assert all(word in str(error.value) for word in words)


def test_a_head_without_a_layout_is_named(monkeypatch):
    student = small_model()
    teacher = small_model()
    monkeypatch.setattr(teacher.dense_head, "prediction_layout", None)
    with pytest.raises(
        ConfigError,
        match="T.TEACHER: predictions of AnchorHeadSingle cannot be read; .* of kind anch",
    ):
        pair(student, teacher)


def test_points_are_not_compared_with_anchors():
    cfg = {"NAME": "LogitBoxLoss", "STUDENT": "dense_head", "TEACHER": "point_head"}
    with pytest.raises(
        ConfigError, match="dense_head of the student predicts on a grid, point_head .* for points"
    ):
        PredictionInput.pair(
            cfg, source(small_model()), source(small_point_rcnn(), "teacher", point_spec()), "T"
        )


def test_half_precision_is_read_in_float32():
    model = small_model()
    reader, features, batch = observed(model, scenes())
    found = reader.read({path: feature.half() for path, feature in features.items()}, batch)
    assert found.logits.dtype == found.codes.dtype == torch.float32


def test_cells_are_matched_by_shared_classes():
    """A centre head of more classes is no other kind of head."""
    torch.manual_seed(0)
    few = build_network(
        center_config([["Cyclist", "Car"]]),
        2,
        dataclasses.replace(small_spec(), class_names=["Cyclist", "Car"]),
    )
    for student, teacher in (
        (few, small_model(center_config())),
        (small_model(center_config()), few),
    ):
        own, theirs = matched(student, teacher, scenes())
        assert len(own) == len(theirs) == 2 * 16 * 16
        absent = [name not in few.class_names for name in student.class_names]
        for side in (own, theirs):
            assert (side.logits[0] == ABSENT_LOGIT).tolist() == absent


def test_centre_cells_that_lie_a_little_apart():
    """With a range that begins 0.2 m further on, the offsets in the same cell differ."""
    spec = dataclasses.replace(small_spec())
    spec.point_cloud_range = spec.point_cloud_range + np.array(
        [0.2, 0, 0, 0.2, 0, 0], dtype=np.float32
    )
    student = small_model(center_config())
    teacher = build_network(center_config(), 3, spec)
    own, theirs = matched(student, teacher, scenes())
    assert len(own) == 2 * 256
    assert torch.equal(own.references, theirs.references)
    codes = theirs.codes_like(own)
    torch.testing.assert_close(codes[:, 0], theirs.codes[:, 0] + 0.2)
    torch.testing.assert_close(
        own.form.decode(codes, own.references, own.logits, None),
        theirs.boxes(),
        atol=1e-4,
        rtol=1e-4,
    )


def test_heads_without_classes_are_matched_too():
    """Proposals without classes still have anchors of classes."""
    heads = []
    for seed in (0, 1):
        model = small_model(seed=seed)
        model.dense_head.num_class = (
            1  # as a head with CLASS_AGNOSTIC is built before a second stage
        )
        heads.append(model)
    own, theirs = pair(*heads)
    assert own.reader.class_names == ["any class"]
    assert own.rows is None
    assert theirs.columns is None
    finer = model_config()
    finer.DENSE_HEAD.ANCHOR_GENERATOR_CONFIG = finer.DENSE_HEAD.ANCHOR_GENERATOR_CONFIG[:2]
    few = build_network(finer, 3, small_spec())
    few.dense_head.num_class = 1
    own, theirs = pair(heads[0], few)
    assert len(own.rows) == len(theirs.rows) == 16 * 16 * 4
