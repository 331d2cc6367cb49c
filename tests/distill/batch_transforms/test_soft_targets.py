"""SoftTargets: what trains on frames without labels, and what does not."""

from __future__ import annotations

import pytest
import test_recipes
import torch
from head_pairs import batch_for, distiller
from made_predictions import predictions
from small_point_rcnn import small_point_rcnn
from test_build_distiller import voxel_batch

from pcdet_distill.distill import TapSource
from pcdet_distill.distill.batch_transforms import SoftTargets
from pcdet_distill.distill.unsure import UnsureZone
from pcdet_distill.errors import ConfigError, DataError
from pcdet_distill.models import capture

LOGITS = {"NAME": "LogitBoxLoss", "STUDENT": "dense_head", "TEACHER": "dense_head"}
# No zone: a score cannot lie in it.
SURE = {"NAME": "SoftTargets", "UNSURE_FROM": 1.0, "UNSURE_TO": 1.0}
teacher_of = test_recipes.teacher_of  # a fixture
HEADS = pytest.mark.parametrize("kind", ["single", "multi", "centre"])


def batch_of(labelled):
    """Two frames; the labels of the others are taken away."""
    batch = batch_for("single")
    batch["is_labelled"] = torch.tensor(labelled, dtype=torch.float32)
    batch["gt_boxes"] = batch["gt_boxes"] * batch["is_labelled"][:, None, None]
    return batch


def head_gradients(model, batch, part):
    """Gradients of the student's predictions (B, ...) by the whole loss or one part of it."""
    paths = [path for _, term in model.head.named_terms() for path in term.student.paths]
    with capture(model.student, paths) as features:
        ret, tb, _ = model(batch)
    outputs = []
    for path in paths:
        output = features[path]
        outputs += [output] if isinstance(output, torch.Tensor) else list(output.values())
    losses = {"all": ret["loss"], "detection": model.student.get_training_loss()[0]}
    gradients = torch.autograd.grad(losses[part], outputs, allow_unused=True)
    return [gradient for gradient in gradients if gradient is not None], tb


def strength(gradients, frame):
    """Sum of the sizes of all gradients (B, ...) of a frame."""
    return sum(gradient[frame].abs().sum().item() for gradient in gradients)


@HEADS
def test_an_unlabelled_frame_has_no_gradient_of_the_detection_loss(kind):
    model = distiller(kind, kind, {"LOGITS": LOGITS, "SOFT": SURE})
    gradients, tb = head_gradients(model, batch_of([True, False]), "detection")
    assert tb["distill_soft_unlabelled"] == 1
    assert strength(gradients, frame=1) == 0
    assert strength(gradients, frame=0) > 0


@HEADS
def test_an_unlabelled_frame_learns_from_the_distillation_alone(kind):
    """Its gradients are those of a distillation that is the only loss."""
    model = distiller(kind, kind, {"LOGITS": LOGITS, "SOFT": SURE})
    whole, _ = head_gradients(model, batch_of([False, False]), "all")
    detection, _ = head_gradients(model, batch_of([False, False]), "detection")
    for frame in (0, 1):
        assert strength(detection, frame) == 0
        assert strength(whole, frame) > 0


@HEADS
def test_a_labelled_frame_is_trained_as_without_unlabelled_ones(kind):
    model = distiller(kind, kind, {"LOGITS": LOGITS, "SOFT": SURE})
    mixed, _ = head_gradients(model, batch_of([True, True]), "detection")
    plain = distiller(kind, kind, {"LOGITS": LOGITS})
    expected, _ = head_gradients(plain, batch_of([True, True]), "detection")
    for first, second in zip(mixed, expected):
        assert torch.equal(first, second)


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_a_frame_keeps_its_weight_in_a_mixed_batch(kind):
    model = distiller(kind, kind, {"LOGITS": LOGITS, "SOFT": SURE})
    mixed, _ = head_gradients(model, batch_of([True, False]), "detection")
    both, _ = head_gradients(model, batch_of([True, True]), "detection")
    for first, second in zip(mixed, both):
        torch.testing.assert_close(first[0], second[0])


@HEADS
def test_without_the_transform_an_unlabelled_frame_is_background(kind):
    """What SoftTargets is there to avoid."""
    model = distiller(kind, kind, {"LOGITS": LOGITS})
    gradients, _ = head_gradients(model, batch_of([True, False]), "detection")
    assert strength(gradients, frame=1) > 0


@HEADS
def test_an_unsure_zone_has_no_gradient(kind):
    """All scores of the teacher lie in the zone, so nothing teaches the unlabelled frame."""
    zone = {"NAME": "SoftTargets", "UNSURE_FROM": 0.0, "UNSURE_TO": 1.0}
    model = distiller(kind, kind, {"LOGITS": LOGITS, "SOFT": zone})
    gradients, _ = head_gradients(model, batch_of([True, False]), "all")
    assert strength(gradients, frame=1) == 0
    assert strength(gradients, frame=0) > 0


@pytest.mark.parametrize("zone, learns", [([1.0, 1.0], True), ([0.0, 1.0], False)])
def test_beside_a_cached_teacher(zone, learns, teacher_of, tmp_path):
    recipe = tmp_path / "cached.yaml"
    recipe.write_text(
        "_BASE_CONFIG_: cfgs/synthetic/recipes/soft_targets.yaml\n"
        "DISTILL:\n"
        "    TEACHER: {CACHE: predictions}\n"
        f"    TERMS: {{SOFT: {{UNSURE_FROM: {zone[0]}, UNSURE_TO: {zone[1]}}}}}\n"
    )
    model, spec = test_recipes.small_distiller(recipe, teacher_of)
    batch = voxel_batch(spec)
    count = len(batch["gt_boxes"])
    batch["is_labelled"] = (torch.arange(count) > 0).float()
    test_recipes.bring_stored_predictions(model.teacher, batch, tmp_path)
    detection, _ = head_gradients(model, dict(batch), "detection")
    assert strength(detection, frame=0) == 0
    whole, _ = head_gradients(model, dict(batch), "all")
    assert (strength(whole, frame=0) > 0) == learns


def test_the_zone_leaves_out_positions_of_unlabelled_frames():
    teacher = predictions(
        [[0.05], [0.2], [0.9], [0.2], [0.29]], torch.zeros(5, 7), batch_index=[0, 0, 1, 1, 1]
    )
    student = predictions([[0.5]] * 5, torch.arange(5)[:, None].expand(5, 7))
    zone = UnsureZone(torch.tensor([True, False]), low=0.1, high=0.3)
    kept, kept_teacher = zone.leave_out(student, teacher)
    assert kept.codes[:, 0].tolist() == [0, 1, 2]
    assert kept_teacher.batch_index.tolist() == [0, 0, 1]


def test_the_batch_must_say_what_is_labelled():
    model = distiller("single", "single", {"LOGITS": LOGITS, "SOFT": SURE})
    batch = batch_for("single")
    with pytest.raises(DataError, match="no entry 'is_labelled' .* after take_unlabelled"):
        model(batch)


def test_a_student_whose_loss_cannot_leave_frames_out_is_refused():
    student = small_point_rcnn(seed=0)
    source = TapSource.of("student", student, student.dataset)
    with pytest.raises(ConfigError, match="T.NAME: SoftTargets .* of the student cannot"):
        SoftTargets().check_student(source, "T")


def test_a_zone_the_wrong_way_round_is_refused():
    with pytest.raises(ConfigError, match="T.UNSURE_TO: expected at least UNSURE_FROM, 0.5"):
        SoftTargets.from_config({"UNSURE_FROM": 0.5, "UNSURE_TO": 0.2}, "T")


def test_a_weight_has_no_effect_and_is_refused():
    words = "SOFT.WEIGHT: SoftTargets changes which frames the detection loss counts alone; remove"
    with pytest.raises(ConfigError, match=words):
        distiller("single", "single", {"LOGITS": LOGITS, "SOFT": {**SURE, "WEIGHT": 1.0}})
