"""LocalisationLoss: the divergence by numeric integration, the regions by hand."""

from __future__ import annotations

from math import exp

import numpy as np
import pytest
import torch
from made_predictions import predictions, with_gradients

from pcdet_distill.distill.losses.localisation import LocalisationLoss, LocalisationOptions
from pcdet_distill.errors import ConfigError

LABEL = [10.0, 0, 0, 4, 2, 1.5, 0]
GT = torch.tensor([[[*LABEL, 1.0], [0.0] * 8]])


def shifted(metres):
    """The labelled box moved along its length: IoU (4 - m) / (4 + m)."""
    return [LABEL[0] + metres, *LABEL[1:]]


# IoU 1, 0.6, 0.379, 0.143, and one right on the object that is below the teacher's threshold.
TEACHER = predictions([[0.9], [0.8], [0.7], [0.6], [0.01]], [shifted(m) for m in (0, 1, 1.8, 3, 0)])


def loss_of(student, **options):
    return LocalisationLoss(options=LocalisationOptions(**options))(
        student, TEACHER, {"gt_boxes": GT}
    ).item()


def moved(*amounts):
    """A student whose first code is off by these amounts."""
    codes = TEACHER.codes.clone()
    codes[:, 0] += torch.tensor(amounts)
    return predictions([[0.5]] * 5, codes)


def kl(d):
    return d + exp(-d) - 1


def test_divergence_is_that_of_two_laplace_distributions():
    x = np.linspace(-30, 30, 600001)
    teacher, student = (np.exp(-np.abs(x - centre) / 0.7) / 1.4 for centre in (0.3, 1.5))
    exact = np.sum(teacher * np.log(teacher / student)) * (x[1] - x[0])
    assert kl(1.2 / 0.7) == pytest.approx(exact, abs=1e-4)


def test_golden_numbers():
    student = moved(0.1, 0.2, 0.3, 9, 9)
    assert loss_of(student) == pytest.approx((kl(1) + kl(2) + 0.25 * kl(3)) / 2.25, abs=1e-3)
    assert (kl(1) + kl(2) + 0.25 * kl(3)) / 2.25 == pytest.approx(0.895850, abs=1e-5)


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"temperature": 0.2}, (kl(0.5) + kl(1) + 0.25 * kl(1.5)) / 2.25),
        ({"valuable_weight": 1.0}, (kl(1) + kl(2) + kl(3)) / 3),
        ({"valuable_weight": 0.0}, (kl(1) + kl(2)) / 2),
        ({"main_iou": 0.7}, (kl(1) + 0.25 * (kl(2) + kl(3))) / 1.5),
        ({"valuable_iou": 0.45}, (kl(1) + kl(2)) / 2),
        ({"score_thresh": 0.75}, (kl(1) + kl(2)) / 2),
    ],
)
def test_every_option_acts(options, expected):
    assert loss_of(moved(0.1, 0.2, 0.3, 9, 9), **options) == pytest.approx(expected, abs=1e-3)


def test_objects_of_another_frame_do_not_count():
    teacher = predictions([[0.9], [0.9]], [LABEL, LABEL], [0, 1])
    rows, weights = LocalisationLoss().regions(teacher, torch.cat([GT, torch.zeros_like(GT)]))
    assert rows.tolist() == [0]
    assert weights.tolist() == [1]


@pytest.mark.parametrize("gt", [torch.zeros(1, 2, 8), torch.zeros(1, 0, 8)])
def test_frames_without_objects(gt):
    student = with_gradients(moved(1, 1, 1, 1, 1))
    value = LocalisationLoss()(student, TEACHER, {"gt_boxes": gt})
    value.backward()
    assert value.item() == 0
    assert student.codes.grad.abs().sum() == 0
    assert student.logits.grad.abs().sum() == 0


def test_refused():
    with pytest.raises(
        ConfigError, match="T.VALUABLE_IOU: expected at most MAIN_IOU, 0.5, found 0.6"
    ):
        LocalisationLoss.from_config({"VALUABLE_IOU": 0.6}, None, None, "T")
