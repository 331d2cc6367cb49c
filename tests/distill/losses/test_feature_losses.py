"""FitNets, attention transfer, similarity, contrastive, overhaul: values computed by hand."""

from __future__ import annotations

import dataclasses
from math import log, sqrt

import pytest
import torch
from made_nodes import identity, map_nodes, nodes, tap

from pcdet_distill.distill.losses import DISTILL_LOSSES, MapLoss
from pcdet_distill.distill.losses.attention_transfer import (
    AttentionTransferLoss,
    AttentionTransferOptions,
)
from pcdet_distill.distill.losses.contrastive import ContrastiveLoss, ContrastiveOptions
from pcdet_distill.distill.losses.feature_mimic import FeatureMimicLoss
from pcdet_distill.distill.losses.overhaul import OverhaulLoss, partial_distance
from pcdet_distill.distill.losses.similarity import SimilarityLoss, SimilarityOptions
from pcdet_distill.distill.nodes import as_map
from pcdet_distill.errors import ConfigError, DataError

NODE_LOSSES = (
    "AttentionNonlocalLoss",
    "AttentionTransferLoss",
    "ContrastiveLoss",
    "FeatureMimicLoss",
    "MaskedImitationLoss",
    "OverhaulLoss",
    "SimilarityLoss",
)


def built(name, student=2, teacher=3, **options):
    return DISTILL_LOSSES[name].from_config(options, tap(student), tap(teacher), "T")


def compared(loss, student, teacher, batch):
    """The loss between nodes; a loss over maps gets their maps."""
    if isinstance(loss, MapLoss):
        return loss(as_map(student), as_map(teacher), batch)
    return loss(student, teacher, batch)


def test_feature_mimic():
    loss = FeatureMimicLoss(tap(2), tap(2))
    identity(loss.adapter)
    # Differences 1, 0, 2, -1: squares 6, mean 1.5, half of it.
    assert loss(nodes([[1, 1], [3, 0]]), nodes([[0, 1], [1, 1]]), {}).item() == pytest.approx(0.75)
    loss.adapter.bias.data += 1  # differences 2, 1, 3, 0
    assert loss(nodes([[1, 1], [3, 0]]), nodes([[0, 1], [1, 1]]), {}).item() == pytest.approx(
        14 / 8
    )


def test_attention_transfer():
    student = [[1, 1], [0, 0], [3, 0]]
    teacher = [[0, 0, 1], [0, 0, 0], [0, 0, 1]]
    # Squares over channels: (2, 0, 9) / sqrt(85) against (1, 0, 1) / sqrt(2): 2 - 2 * 11 /
    # sqrt(170).
    loss = AttentionTransferLoss()
    assert loss(nodes(student), nodes(teacher), {}).item() == pytest.approx(
        2 - 22 / sqrt(170), abs=1e-6
    )
    # Absolute values: (2, 0, 3) / sqrt(13): 2 - 2 * 5 / sqrt(26).
    loss = AttentionTransferLoss(options=AttentionTransferOptions(power=1.0))
    assert loss(nodes(student), nodes(teacher), {}).item() == pytest.approx(
        2 - 10 / sqrt(26), abs=1e-6
    )


def test_attention_of_each_frame_is_its_own():
    loss = AttentionTransferLoss()
    one = loss(nodes([[1.0], [2.0]]), nodes([[2.0], [1.0]]), {})
    frames = [0, 0, 1, 1]
    same = loss(
        nodes([[1.0], [2.0], [5.0], [5.0]], frames), nodes([[2.0], [1.0], [7.0], [7.0]], frames), {}
    )
    assert same.item() == pytest.approx(one.item() / 2)


def test_similarity_of_frames():
    # Rows (1, 0), (1, 1): Q Q^T = (1 1; 1 2), its rows normalised; against the identity.
    student = map_nodes([[[[1.0, 0.0]]], [[[1.0, 1.0]]]])
    teacher = map_nodes([[[[2.0, 0.0]]], [[[0.0, 3.0]]]])
    first = (1 - 1 / sqrt(2)) ** 2 + 1 / 2
    second = 1 / 5 + (1 - 2 / sqrt(5)) ** 2
    assert SimilarityLoss()(student, teacher, {}).item() == pytest.approx(
        (first + second) / 4, abs=1e-6
    )
    assert (
        SimilarityLoss()(map_nodes([[[[1.0, 0.0]]]]), map_nodes([[[[0.5, 3.0]]]]), {}).item() == 0
    )  # one frame


def test_similarity_of_nodes():
    student = [[1, 0], [1, 1], [4, 4]]
    teacher = [[2, 0], [0, 3], [0, 0]]
    expected = ((1 - 1 / sqrt(2)) ** 2 + 1 / 2 + 1 / 5 + (1 - 2 / sqrt(5)) ** 2) / 4
    loss = SimilarityLoss(options=SimilarityOptions(over="nodes", num_nodes=2))
    assert loss(nodes(student), nodes(teacher), {}).item() == pytest.approx(expected, abs=1e-6)
    twice = loss(
        nodes(student + [[1, 0]] * 3, [0] * 3 + [1] * 3),
        nodes(teacher + [[1, 0]] * 3, [0] * 3 + [1] * 3),
        {},
    )
    assert twice.item() == pytest.approx(
        expected / 2, abs=1e-6
    )  # the second frame agrees with itself
    by_head = SimilarityLoss(
        options=SimilarityOptions(over="nodes", num_nodes=2, score="objectness")
    )
    scored = nodes([[0, 0], [2, 0], [0, 3]], objectness=[0.1, 0.8, 0.9])
    assert by_head(nodes([[4, 4], [1, 0], [1, 1]]), scored, {}).item() == pytest.approx(
        expected, abs=1e-6
    )
    with pytest.raises(DataError, match="objectness"):
        by_head(nodes(student), nodes(teacher), {})
    with pytest.raises(ConfigError, match="compares whole maps, but tap .* gives voxel"):
        SimilarityLoss.from_config({}, tap(2, "voxel"), tap(2, "voxel"), "T")


def contrastive(**options):
    loss = ContrastiveLoss(tap(2), tap(2), ContrastiveOptions(embed_dim=2, **options))
    identity(loss.student_embedding)
    identity(loss.teacher_embedding)
    return loss


def test_contrastive():
    student = nodes([[2, 0], [3, 4]])
    teacher = nodes([[5, 0], [0, 1]])
    # Cosines: (1, 0), (0.6, 0.8); over temperature 0.5.
    expected = (log(1 + torch.tensor(-2.0).exp()) + log(1 + torch.tensor(-0.4).exp())) / 2
    loss = contrastive(temperature=0.5)
    assert loss(student, teacher, {}).item() == pytest.approx(expected, abs=1e-6)
    assert loss.logs["found"] == 1
    assert contrastive(temperature=1e6)(student, teacher, {}).item() == pytest.approx(
        log(2), abs=1e-5
    )


def test_contrastive_options():
    student = nodes(torch.eye(2).repeat(3, 1), [0, 0, 0, 1, 1, 1])
    teacher = nodes(
        torch.eye(2).repeat(3, 1),
        [0, 0, 0, 1, 1, 1],
        saliency=[1.0, 2, 3, 3, 2, 1],
        objectness=[0.9, 0.8, 0.1, 0.1, 0.2, 0.3],
    )
    assert contrastive(num_nodes=2)._sample(teacher).tolist() == [2, 1, 3, 4]
    assert contrastive(num_nodes=2, score="objectness")._sample(teacher).tolist() == [0, 1, 5, 4]
    torch.manual_seed(0)
    drawn = {
        tuple(contrastive(num_nodes=1, sampling="random")._sample(teacher).tolist())
        for _ in range(20)
    }
    assert len(drawn) > 4
    assert all(first < 3 <= second for first, second in drawn)
    for width in (64, 5):
        loss = ContrastiveLoss.from_config(
            {} if width == 64 else {"EMBED_DIM": 5}, tap(2), tap(3), "T"
        )
        assert loss.student_embedding.out_features == loss.teacher_embedding.out_features == width
    assert contrastive(num_nodes=2)(student, teacher, {}) > contrastive(num_nodes=1)(
        student, teacher, {}
    )


def test_a_constant_embedding_has_the_largest_loss():
    loss = contrastive()
    torch.nn.init.zeros_(loss.teacher_embedding.weight)
    assert loss(nodes(torch.randn(64, 2)), nodes(torch.randn(64, 2)), {}).item() == pytest.approx(
        log(64), abs=1e-4
    )


def test_partial_distance():
    teacher = torch.tensor([[2.0, -1.0, -1.0, 0.0]])
    student = torch.tensor([[1.0, -3.0, 0.5, -2.0]])
    assert partial_distance(teacher, student).tolist() == [[1.0, 0.0, 2.25, 0.0]]


def test_overhaul():
    loss = OverhaulLoss(tap(2), tap(2))
    identity(loss.adapter)
    teacher = nodes([[2.0, -4.0], [-1.0, -2.0], [-3.0, 0.0]])
    # Margins: -2 and -3, so the teacher says (2, -3), (-1, -2), (-2, 0).
    loss.eval()
    loss.margin.copy_(torch.tensor([-2.0, -3.0]))
    value = loss(nodes([[1.0, -9.0], [0.0, -1.0], [-3.0, 1.0]]), teacher, {})
    assert value.item() == pytest.approx(
        (1 + 0 + 1 + 1 + 0 + 1) / 6, rel=1e-4
    )  # batch norm's epsilon
    loss.train()
    loss(nodes([[1.0, -9.0], [0.0, -1.0], [-3.0, 1.0]]), teacher, {})
    assert loss.margin.tolist() == pytest.approx([-2.0, -3.0])
    loss(nodes([[1.0, -9.0], [0.0, -1.0]]), nodes([[-4.0, 0.0], [-4.0, -1.0]]), {})
    assert loss.margin.tolist() == pytest.approx([-3.0, -2.0])
    assert loss.steps == 2
    loss.steps.fill_(20)
    loss(nodes([[1.0, -9.0], [0.0, -1.0]]), nodes([[-40.0, -9.0], [-4.0, -1.0]]), {})
    assert loss.margin.tolist() == pytest.approx([-3.0, -2.0])


@pytest.mark.parametrize("name", NODE_LOSSES)
def test_equal_features_give_the_least_loss(name):
    """With student equal to teacher: zero without an adapter, and finite gradients for all."""
    features = torch.randn(2, 3, 4, 5)
    loss = built(name, 3, 3)
    student = map_nodes(features.clone().requires_grad_())
    batch = {"gt_boxes": torch.tensor([[[2.0, 2, 0, 3, 2, 1, 0, 1]]] * 2)}
    value = compared(loss, student, map_nodes(features), batch)
    value.backward()
    assert value.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in loss.parameters())
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
    assert all(p.grad is not None and p.grad.abs().sum() == 0 for p in loss.parameters())


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


@pytest.mark.parametrize("name", NODE_LOSSES)
def test_half_precision_is_compared_in_full(name):
    torch.manual_seed(0)
    student = torch.randn(2, 2, 8, 8) * 100
    teacher = torch.randn(2, 3, 8, 8) * 100
    batch = {"gt_boxes": torch.tensor([[[2.0, 2, 0, 3, 2, 1, 0, 1]]] * 2)}
    loss = built(name).eval()
    rounded = [map_nodes(side.half().float()) for side in (student, teacher)]
    expected = compared(loss, *rounded, batch)
    halves = []
    for side in (student, teacher):
        made = map_nodes(side.half().float())
        halves.append(dataclasses.replace(made, features=made.features.half()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = compared(loss, *halves, batch)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", NODE_LOSSES)
def test_unknown_keys_are_refused(name):
    with pytest.raises(ConfigError, match="T: unknown key 'WEIGTH'; did you mean 'WEIGHT'"):
        built(name, WEIGTH=1)
