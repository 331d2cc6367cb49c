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
SHIFTS_M = (0, 1, 1.8, 3, 0)
TEACHER = predictions(
    [[0.9], [0.8], [0.7], [0.6], [0.01]], [shifted(metres) for metres in SHIFTS_M]
)


def loss_of(student, **options):
    loss = LocalisationLoss(options=LocalisationOptions(**options))
    return loss(student, TEACHER, {"gt_boxes": GT}).item()


def moved(*amounts):
    """A student whose first code is off by these amounts."""
    codes = TEACHER.codes.clone()
    codes[:, 0] += torch.tensor(amounts)
    return predictions([[0.5]] * 5, codes)


def kl(distance):
    """Divergence of two Laplace distributions that stand so many scales apart."""
    return distance + exp(-distance) - 1


def laplace(x, centre, scale):
    return np.exp(-np.abs(x - centre) / scale) / (2 * scale)


def test_divergence_is_that_of_two_laplace_distributions():
    step = 1e-4
    x = np.arange(-30, 30, step)
    teacher = laplace(x, centre=0.3, scale=0.7)
    student = laplace(x, centre=1.5, scale=0.7)
    integral = np.sum(teacher * np.log(teacher / student)) * step
    assert kl((1.5 - 0.3) / 0.7) == pytest.approx(integral, abs=1e-4)


def test_golden_numbers():
    """The scale is 0.1, so the codes are 1, 2 and 3 scales off.

    The first two boxes are main regions, the third is a valuable one of weight 0.25. The others do
    not count: one is too far away, the other below the teacher's threshold.
    """
    expected = (kl(1) + kl(2) + 0.25 * kl(3)) / (1 + 1 + 0.25)
    assert expected == pytest.approx(0.895850, abs=1e-5)
    assert loss_of(moved(0.1, 0.2, 0.3, 9, 9)) == pytest.approx(expected, abs=1e-3)


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
    without_objects = torch.zeros_like(GT)
    rows, weights = LocalisationLoss().regions(teacher, torch.cat([GT, without_objects]))
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
    words = "T.VALUABLE_IOU: expected at most MAIN_IOU, 0.5, found 0.6"
    with pytest.raises(ConfigError, match=words):
        LocalisationLoss.from_config({"VALUABLE_IOU": 0.6}, None, None, "T")
