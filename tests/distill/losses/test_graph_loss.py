"""GraphDistillLoss: every option against a slow computation, its invariances, its training."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from graph_scenes import (
    PRESETS,
    SMALL,
    TEACHER_CHANNELS,
    build,
    gradients,
    nodes,
    scene,
    voxel_tap,
)
from made_nodes import choices_of
from plain_graph_loss import plain_loss

from pcdet_distill.distill.losses import edges as edges_module
from pcdet_distill.distill.losses.graph import GraphDistillLoss, GraphOptions
from pcdet_distill.distill.losses.graph_options import OFFICIAL
from pcdet_distill.distill.nodes import NodeFeatures

CHOICES = choices_of(GraphOptions)
del CHOICES["preset"]


def variants():
    """Each choice of each option, in two presets; sampling and frobenius are tested below."""
    fields = {**CHOICES, "mix_frames": (True, False)}
    del fields["sampling"]
    for preset in ("default", "official_voxel"):
        for field, values in fields.items():
            for value in values:
                if value != "frobenius":
                    yield preset, field, value


@pytest.mark.parametrize(
    "preset, field, value",
    [
        *variants(),
        ("official_bev", "edge", "difference"),
        ("official_point", "edge", "concat"),
        ("official_point", "distance", "frobenius"),
    ],
)
def test_every_option_against_the_plain_computation(preset, field, value, monkeypatch):
    monkeypatch.setattr(edges_module, "CHUNK_FLOATS", 50)  # several chunks even here
    options = dataclasses.replace(
        PRESETS[preset], num_nodes=7, num_neighbors=4, embed_dim=5, temperature=0.3
    )
    module = build(dataclasses.replace(options, **{field: value}))
    student, teacher = scene()
    queries = module.choose_queries(teacher)
    loss = module.compare(student, teacher, queries)
    expected = plain_loss(module, student, teacher, queries)
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-12)
    found_gradients = gradients(loss, module, student)
    expected_gradients = gradients(expected, module, student)
    for name, gradient in expected_gradients.items():
        torch.testing.assert_close(found_gradients[name], gradient, rtol=1e-8, atol=1e-10, msg=name)


@pytest.mark.parametrize(
    "change",
    [
        {"edge": "difference"},
        {"pool": "max"},
        {"pool": "mean"},
        {"score": "channel_max"},
        {"score": "norm"},
        {"score": "objectness"},
        {"weighting": "none"},
        {"weighting": "softmax_raw"},
        {"weighting": "batch_size"},
        {"temperature": 5.0},
        {"distance": "smooth_l1"},
        {"distance": "cosine"},
        {"distance": "published"},
        {"distance": "frobenius", "weighting": "none"},
        {"teacher_adapter": "trained"},
        {"teacher_adapter": "none"},
        {"neighbor_space": "metres"},
        {"mix_frames": True},
        {"num_nodes": 3},
        {"num_nodes": 0.25},
        {"num_neighbors": 9},
        {"embed_dim": 8},
        {"sampling": "bottom"},
    ],
)
def test_every_option_changes_the_loss(change):
    student, teacher = scene()
    usual = build(SMALL)(student, teacher, {})
    changed = build(dataclasses.replace(SMALL, **change))(student, teacher, {})
    assert abs(usual.item() - changed.item()) > 1e-4


def test_a_loss_worked_out_by_hand():
    """One frame, two nodes, K 2; the student predicts the edges themselves.

    The teacher's nodes are 0 and 2, so its edges [neighbour ; query] are (0, 0), (2, 0), (0, 2)
    and (2, 2). Standardised, each channel is -1 where it was 0, and 1 where it was 2.
    The student sees 1 everywhere, so its normalised output is beta = 0.5 in both channels.

    Squared differences: 1.5^2 = 2.25 from a -1, 0.5^2 = 0.25 from a 1.
        the neighbour's channel, half -1 and half 1:  (2.25 + 0.25) / 2 = 1.25
        the query's channel: 2.25 for query 0, which is -1, and 0.25 for query 1
    Mean of the two channels: 1.75 for query 0, and 0.75 for query 1.
    """
    options = GraphOptions(num_nodes=2, num_neighbors=2, teacher_adapter="none", score="saliency")
    module = GraphDistillLoss(voxel_tap(1), voxel_tap(1), options).double()
    with torch.no_grad():
        module.student_adapter.beta.fill_(0.5)
    frame = torch.zeros(2, dtype=torch.long)
    coords = torch.zeros(2, 3)
    saliency = torch.tensor([1.0, 3.0])
    teacher_features = torch.tensor([[0.0], [2.0]]).double()
    teacher = NodeFeatures(teacher_features, frame, coords, saliency)
    student = NodeFeatures(torch.ones_like(teacher_features), frame, coords, saliency)

    # The scores 1 and 3 scale to 0 and 1. A softmax at temperature 0.5 gives e^0 and e^2.
    share_0 = 1 / (1 + math.exp(2))
    share_1 = 1 - share_0
    expected_loss = share_0 * 1.75 + share_1 * 0.75
    expected_entropy = -(share_0 * math.log2(share_0) + share_1 * math.log2(share_1))

    assert module(student, teacher, {}).item() == pytest.approx(expected_loss, abs=1e-5)
    assert module.logs["entropy"].item() == pytest.approx(expected_entropy, abs=1e-6)


def copy_teacher_adapter(module):
    """Give the student's adapter the teacher's parameters; a fixed one has no gamma and beta."""
    student, teacher = module.student_adapter, module.teacher_adapter
    with torch.no_grad():
        student.weight.copy_(teacher.weight)
        if teacher.gamma is None:
            student.gamma.fill_(1.0)
            student.beta.fill_(0.0)
        else:
            student.gamma.copy_(teacher.gamma)
            student.beta.copy_(teacher.beta)


@pytest.mark.parametrize("preset", PRESETS)
def test_zero_when_student_is_teacher_and_adapters_are_equal(preset):
    options = dataclasses.replace(PRESETS[preset], num_nodes=7, num_neighbors=4, embed_dim=5)
    module = build(options, channels=(6, 6))
    copy_teacher_adapter(module)
    _, teacher = scene()
    assert module(teacher, teacher, {}).item() < 1e-14


def seven_nodes():
    """Frame 0 has the nodes 0, 2, 4 and 6; frame 1 has 1, 3 and 5."""
    batch_index = torch.tensor([0, 1, 0, 1, 0, 1, 0])
    teacher = nodes(torch.zeros(7, TEACHER_CHANNELS), batch_index)
    saliency = torch.tensor([5.0, 9.0, 1.0, 8.0, 3.0, 7.0, 2.0])
    return dataclasses.replace(teacher, saliency=saliency)


@pytest.mark.parametrize(
    "change, expected",
    [
        ({"num_nodes": 2}, [0, 1, 3, 4]),
        ({"num_nodes": 2, "sampling": "bottom"}, [2, 3, 5, 6]),
        ({"num_nodes": 2, "mix_frames": True}, [1, 3]),
        ({"num_nodes": 0.5}, [0, 1, 3, 4]),  # 2 of 4 and, rounded up, 2 of 3
        ({"num_nodes": 100}, [0, 1, 2, 3, 4, 5, 6]),
    ],
)
def test_queries_are_chosen_per_frame_by_score(change, expected):
    module = build(dataclasses.replace(SMALL, **change))
    assert sorted(module.choose_queries(seven_nodes()).tolist()) == expected


def test_random_queries_differ_and_are_as_many_in_every_frame():
    options = dataclasses.replace(SMALL, num_nodes=2, sampling="random")
    module = build(options)
    drawn = [sorted(module.choose_queries(seven_nodes()).tolist()) for _ in range(13)]
    for rows in drawn:
        of_frame_1 = [row for row in rows if row in (1, 3, 5)]
        assert len(rows) == 4
        assert len(of_frame_1) == 2
    assert any(rows != drawn[0] for rows in drawn)


@pytest.mark.parametrize("mix_frames", [False, True])
def test_frames_mix_only_where_the_option_says_so(mix_frames):
    """Without it, the gradient of frame 0 stays the same, whatever frame 1 holds."""
    options = dataclasses.replace(SMALL, weighting="none", mix_frames=mix_frames)
    module = build(options).eval()  # eval: fixed statistics, else frames share those
    student, teacher = scene(frames=2)
    in_frame_0 = teacher.batch_index == 0
    changed_features = teacher.features.clone()
    changed_features[~in_frame_0] = teacher.features[~in_frame_0] * 3 - 1
    changed = dataclasses.replace(teacher, features=changed_features)

    before = gradients(module(student, teacher, {}), module, student)["student"]
    after = gradients(module(student, changed, {}), module, student)["student"]
    frame_0_is_the_same = torch.equal(before[in_frame_0], after[in_frame_0])
    assert frame_0_is_the_same != mix_frames
    assert not torch.equal(before[~in_frame_0], after[~in_frame_0])


def record_sizes(adapter, monkeypatch):
    """A list that gets the number of nodes of every later call of the adapter."""
    sizes = []
    forward = adapter.forward

    def recording(features, queries, neighbours):
        sizes.append(len(features))
        return forward(features, queries, neighbours)

    monkeypatch.setattr(adapter, "forward", recording)
    return sizes


def test_nodes_outside_of_the_graph_are_not_embedded(monkeypatch):
    student, teacher = scene(count=40, frames=2)
    module = build(dataclasses.replace(SMALL, num_nodes=2, num_neighbors=3))
    student_sizes = record_sizes(module.student_adapter, monkeypatch)
    teacher_sizes = record_sizes(module.teacher_adapter, monkeypatch)
    loss = module(student, teacher, {})
    assert student_sizes == teacher_sizes
    assert student_sizes[0] <= 2 * 2 * 3  # frames, queries, neighbours
    gradient = gradients(loss, module, student)["student"]
    rows_with_gradient = gradient.abs().sum(dim=1).nonzero()
    assert len(rows_with_gradient) == student_sizes[0]


def test_row_order_does_not_matter():
    student, teacher = scene()
    order = torch.randperm(len(teacher))
    module = build()
    straight = module(student, teacher, {})
    shuffled = module(student.select(order), teacher.select(order), {})
    torch.testing.assert_close(straight, shuffled, rtol=1e-12, atol=0)


@pytest.mark.parametrize("preset", PRESETS)
def test_teacher_gets_no_gradient_and_student_and_adapters_do(preset):
    student, teacher = scene(dtype=torch.float32)
    teacher = dataclasses.replace(teacher, features=teacher.features.requires_grad_())
    options = dataclasses.replace(PRESETS[preset], num_nodes=9, num_neighbors=3)
    module = build(options, dtype=torch.float32)
    found = gradients(module(student, teacher, {}), module, student)
    assert teacher.features.grad is None
    for name, gradient in found.items():
        assert gradient.abs().sum() > 0, name
    trained = {name.split(".")[0] for name, _ in module.named_parameters()}
    if preset == "default":
        assert trained == {"student_adapter"}
    else:
        assert trained == {"student_adapter", "teacher_adapter"}


def test_published_frobenius_norm_has_a_gradient_at_zero():
    options = dataclasses.replace(OFFICIAL["point"], distance="frobenius", num_nodes=3)
    module = build(options, channels=(6, 6))
    module.student_adapter.load_state_dict(module.teacher_adapter.state_dict())
    _, teacher = scene()
    same = dataclasses.replace(teacher, features=teacher.features.clone().requires_grad_())
    module(same, teacher, {}).backward()
    assert torch.isfinite(same.features.grad).all()


def with_features(side, dtype):
    return dataclasses.replace(side, features=side.features.detach().to(dtype))


@pytest.mark.parametrize("preset", PRESETS)
def test_mixed_precision_computes_in_float32(preset):
    options = dataclasses.replace(PRESETS[preset], num_nodes=20, num_neighbors=4)
    student, teacher = scene(dtype=torch.float32)
    plain = build(options, dtype=torch.float32)(student, teacher, {})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = build(options, dtype=torch.float32)(student, teacher, {})
    assert mixed.dtype == torch.float32
    assert torch.equal(plain, mixed)


@pytest.mark.parametrize("preset", PRESETS)
def test_half_precision_features_are_computed_with_in_float32(preset):
    options = dataclasses.replace(PRESETS[preset], num_nodes=20, num_neighbors=4)
    student, teacher = scene(dtype=torch.float32)
    half = [with_features(side, torch.half) for side in (student, teacher)]
    full = [with_features(side, torch.float32) for side in half]
    loss_of_half = build(options, dtype=torch.float32)(*half, {})
    loss_of_full = build(options, dtype=torch.float32)(*full, {})
    assert torch.equal(loss_of_half, loss_of_full)
