"""What every loss between features keeps to: equal, no, zero and half-precision features."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from made_nodes import map_nodes, tap

from pcdet_distill.distill.losses import DISTILL_LOSSES, MapLoss
from pcdet_distill.distill.nodes import as_map
from pcdet_distill.errors import ConfigError

NODE_LOSSES = (
    "AttentionNonlocalLoss",
    "AttentionTransferLoss",
    "ContrastiveLoss",
    "DensifyLoss",
    "FeatureMimicLoss",
    "InterchangeLoss",
    "MaskedImitationLoss",
    "OverhaulLoss",
    "RegionMimicLoss",
    "SimilarityLoss",
)
# The made nodes have no objectness, which is the default score of these.
OPTIONS = {"InterchangeLoss": {"SCORE": "none"}}
BOX = [2.0, 2, 0, 3, 2, 1, 0, 1]


def built(name, student=2, teacher=3, **options):
    options = {**OPTIONS.get(name, {}), **options}
    return DISTILL_LOSSES[name].from_config(options, tap(student), tap(teacher), "T")


def compared(loss, student, teacher, batch):
    """The loss between nodes; a loss over maps gets their maps."""
    if isinstance(loss, MapLoss):
        return loss(as_map(student), as_map(teacher), batch)
    return loss(student, teacher, batch)


@pytest.mark.parametrize("name", NODE_LOSSES)
def test_equal_features_give_the_least_loss(name):
    """With student equal to teacher: zero without an adapter, and finite gradients for all."""
    features = torch.randn(2, 3, 4, 5)
    loss = built(name, 3, 3)
    student = map_nodes(features.clone().requires_grad_())
    batch = {"gt_boxes": torch.tensor([[BOX], [BOX]])}
    value = compared(loss, student, map_nodes(features), batch)
    value.backward()
    assert value.isfinite()
    for parameter_name, parameter in loss.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
    if name in ("AttentionTransferLoss", "SimilarityLoss"):
        assert value.item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", NODE_LOSSES)
def test_no_nodes_give_a_loss_of_zero(name):
    loss = built(name)
    features = torch.zeros(0, 2, 4, 4).requires_grad_()
    empty = map_nodes(features)
    batch = {"gt_boxes": torch.zeros(1, 1, 8)}
    value = compared(loss, empty, map_nodes(torch.zeros(0, 3, 4, 4)), batch)
    value.backward()
    assert value.item() == 0
    assert features.grad is not None
    for parameter_name, parameter in loss.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().sum() == 0, parameter_name


@pytest.mark.parametrize("name", NODE_LOSSES)
def test_maps_of_zeros_give_finite_gradients(name):
    """A frame without a point, and its neighbour with some."""
    features = torch.zeros(2, 2, 4, 4)
    features[1] = torch.rand(2, 4, 4)
    student = map_nodes(features.requires_grad_())
    loss = built(name)
    batch = {"gt_boxes": torch.zeros(2, 1, 8)}
    value = compared(loss, student, map_nodes(torch.zeros(2, 3, 4, 4)), batch)
    value.backward()
    assert value.isfinite()
    assert features.grad.isfinite().all()


def in_half(side):
    return dataclasses.replace(side, features=side.features.half())


@pytest.mark.parametrize("name", NODE_LOSSES)
def test_half_precision_is_compared_in_full(name):
    torch.manual_seed(0)
    student = torch.randn(2, 2, 8, 8) * 100
    teacher = torch.randn(2, 3, 8, 8) * 100
    batch = {"gt_boxes": torch.tensor([[BOX], [BOX]])}
    loss = built(name).eval()
    rounded_student = map_nodes(student.half().float())
    rounded_teacher = map_nodes(teacher.half().float())
    expected = compared(loss, rounded_student, rounded_teacher, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = compared(loss, in_half(rounded_student), in_half(rounded_teacher), batch)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", NODE_LOSSES)
def test_unknown_keys_are_refused(name):
    with pytest.raises(ConfigError, match="T: unknown key 'WEIGTH'; did you mean 'WEIGHT'"):
        built(name, WEIGTH=1)
