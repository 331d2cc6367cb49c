"""TeacherLabels: which boxes join the labels, and that the student's targets change with them."""

from __future__ import annotations

import pytest
import torch
from small_model import make_batch, random_scene, small_model

from pcdet_distill.distill import Distiller, DistillHead, TapSource, Teacher
from pcdet_distill.distill.batch_transforms.labels import TeacherLabelOptions, TeacherLabels
from pcdet_distill.errors import ConfigError

CAR = [10.0, 0, 0, 4, 2, 1.5, 0]


def shifted(metres):
    return [CAR[0] + metres, *CAR[1:]]


class FixedPredictor:
    """Predicts given boxes."""

    def __init__(self, *frames):
        self.frames = []
        for rows in frames:
            boxes = torch.tensor([box for box, _, _ in rows]).reshape(-1, 7)
            scores = torch.tensor([score for _, score, _ in rows])
            labels = torch.tensor([label for _, _, label in rows], dtype=torch.long)
            self.frames.append({"pred_boxes": boxes, "pred_scores": scores, "pred_labels": labels})

    def predict(self, batch_dict):
        return self.frames


def labels(gt, *frames, **options):
    batch = {"gt_boxes": torch.tensor(gt)} if gt is not None else {}
    given = None if gt is None else batch["gt_boxes"].clone()
    source = dict(batch)
    loss = TeacherLabels(TeacherLabelOptions(**options))
    loss.prepare(batch, FixedPredictor(*frames))
    if gt is not None:
        assert torch.equal(source["gt_boxes"], given)  # what others hold stays as it is
    return batch["gt_boxes"], loss


def test_confident_boxes_are_added_where_no_label_is():
    gt = [[[*CAR, 1.0], [0.0] * 8], [[0.0] * 8, [0.0] * 8]]
    found, loss = labels(
        gt,
        [(shifted(0.2), 0.9, 1), (shifted(10), 0.8, 1), (shifted(20), 0.3, 1)],
        [(CAR, 0.5, 2), (shifted(9), 0.6, 3), (shifted(18), 0.7, 1)],
    )
    assert found.shape == (2, 3, 8)
    assert loss.logs["added"] == 4
    assert found[0].tolist() == [[*CAR, 1], [*shifted(10), 1], [0.0] * 8]
    assert found[1].tolist() == [[*CAR, 2], [*shifted(9), 3], [*shifted(18), 1]]


def test_every_option_acts():
    # IoU of the first: 0.6
    gt = [[[*CAR, 1.0]]]
    said = [(shifted(1), 0.9, 1), (shifted(10), 0.45, 1)]
    assert labels(gt, said)[0].shape == (1, 2, 8)
    assert labels(gt, said, score_thresh=0.5)[0].shape == (1, 1, 8)
    assert labels(gt, said, max_overlap=0.59)[0].shape == (1, 2, 8)
    assert labels(gt, said, max_overlap=0.61)[0].shape == (1, 3, 8)


def test_another_class_may_stand_there():
    assert labels([[[*CAR, 1.0]]], [(CAR, 0.9, 2)])[0].tolist() == [[[*CAR, 1], [*CAR, 2]]]


def test_frames_without_labels():
    found, _ = labels(None, [(CAR, 0.9, 2)], [])
    assert found.tolist() == [[[*CAR, 2]], [[0.0] * 8]]
    assert labels([[[0.0] * 8]], [])[0].tolist() == [[[0.0] * 8]]


def test_velocities_are_kept_and_padded():
    assert labels([[[*CAR, 3.0, 4.0, 1.0]]], [(shifted(10), 0.9, 1)])[0][0, 1].tolist() == [
        *shifted(10),
        0,
        0,
        1,
    ]


def test_the_student_is_trained_on_them():
    student = small_model(seed=0)
    teacher = small_model(seed=1)
    torch.nn.init.constant_(teacher.dense_head.conv_cls.bias, 2.0)
    head = DistillHead.from_config(
        {"LABELS": {"NAME": "TeacherLabels", "SCORE_THRESH": 0.2}},
        TapSource.of("student", student, student.dataset),
        TapSource.of("teacher", teacher, teacher.dataset),
    )
    model = Distiller(student, Teacher(teacher), head).train()
    batch = make_batch([random_scene(0), random_scene(1)])
    before = batch["gt_boxes"].clone()
    ret, tb, _ = model(batch)
    ret["loss"].backward()
    assert torch.equal(batch["gt_boxes"], before)
    assert tb["distill_labels_added"] > 5
    assert tb["distill_loss"] == 0
    positive = student.dense_head.forward_ret_dict["box_cls_labels"] > 0
    plain = small_model(seed=0).train()
    plain(dict(batch))
    assert positive.sum() > (plain.dense_head.forward_ret_dict["box_cls_labels"] > 0).sum() + 5


@pytest.mark.parametrize("key", ["STUDENT", "TEACHER", "NODES", "WEIGHT"])
def test_keys_without_effect_are_refused(key):
    model = small_model()
    source = TapSource.of("student", model, model.dataset)
    with pytest.raises(
        ConfigError, match=f"DISTILL.TERMS.T.{key}: TeacherLabels changes the labels"
    ):
        DistillHead.from_config({"T": {"NAME": "TeacherLabels", key: 1.0}}, source, source)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"SCORE_THRESH": 1.2}, "T.SCORE_THRESH: expected a number from 0 to 1"),
        ({"MAX_OVERLAPS": 1}, "did you mean 'MAX_OVERLAP'"),
    ],
)
def test_refused(options, words):
    with pytest.raises(ConfigError) as error:
        TeacherLabels.from_config(options, "T")
    assert words in str(error.value)
