"""GraphRelationLoss: against loops, its control, the weights of objects, and its options."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy_relations
import pytest
import torch
from made_nodes import tap
from numpy_methods import gradient
from test_object_graphs import scene
from test_objectness import TAPS, source

from pcdet_distill.distill.distill_head import DistillTerm
from pcdet_distill.distill.losses.graph_relation import (
    RELATIONS,
    GraphRelationLoss,
    GraphRelationOptions,
)
from pcdet_distill.distill.nodes import NodeFeatures
from pcdet_distill.errors import ConfigError

STUDENT, TEACHER = tap(3), tap(5)
COUNT = 4
SMALL = GraphRelationOptions(relation="attention", num_neighbors=COUNT, temperature=0.3)


def nodes(seed=0):
    """Student and teacher at random places of two frames with three objects, and the batch."""
    coords, frames, boxes = scene(count=80)
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (
        NodeFeatures(
            torch.randn(80, width, generator=generator, dtype=torch.float64),
            frames,
            coords,
            torch.ones(80),
            objectness=torch.rand(80, generator=generator),
        )
        for width in (3, 5)
    )
    return student, teacher, {"gt_boxes": boxes}


def build(options=SMALL):
    torch.manual_seed(1)
    return GraphRelationLoss(STUDENT, TEACHER, options).double()


def by_loops(module, features, teacher, batch_dict, object_weights=None):
    """The loss of a fresh module in numpy, for student features (N, C)."""
    options = module.options
    members = numpy_relations.regions(
        teacher.coords[:, :2].numpy(),
        teacher.batch_index.numpy(),
        batch_dict["gt_boxes"][:, :2, :7].double().numpy(),
        options.margin_m,
    )
    scores = teacher.objectness.numpy()
    if options.score == "none":
        object_weights = np.ones(len(members))
    elif object_weights is None:
        object_weights = np.array([scores[own].max() for own in members])
    relations = {
        "difference": lambda s, adapted, t: numpy_relations.difference(adapted, t),
        "affinity": lambda s, adapted, t: numpy_relations.affinity(s, t),
        "attention": lambda s, adapted, t: numpy_relations.attention(s, t, options.temperature),
    }
    return numpy_relations.relation_loss(
        features,
        teacher.features.numpy(),
        members,
        object_weights,
        adapter=[part.detach().numpy() for part in module.adapter.parameters()],
        count=options.num_neighbors,
        relation=lambda *sides: options.relation_weight * relations[options.relation](*sides),
        node_weight=options.node_weight,
    )


@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize(
    "change",
    [{}, {"score": "none"}, {"margin_m": 2.0}, {"num_neighbors": 1}, {"num_neighbors": 50}],
    ids=str,
)
def test_against_loops(relation, change):
    module = build(dataclasses.replace(SMALL, relation=relation, **change))
    student, teacher, batch = nodes()
    found = module(student, teacher, batch).item()
    # Scores are float32, as the head gives them.
    assert found == pytest.approx(
        by_loops(module, student.features.numpy(), teacher, batch), rel=1e-6
    )


@pytest.mark.parametrize("relation", RELATIONS)
def test_gradient_of_the_student(relation):
    module = build(dataclasses.replace(SMALL, relation=relation, score="none"))
    student, teacher, batch = nodes()
    student.features.requires_grad_()
    module(student, teacher, batch).backward()
    expected = gradient(
        lambda features: by_loops(build(module.options), features, teacher, batch),
        student.features.detach().numpy(),
    )
    np.testing.assert_allclose(student.features.grad.numpy(), expected, atol=1e-7)


@pytest.mark.parametrize("weights", [(2.0, 0.5), (0.0, 1.0), (1.0, 0.0)])
def test_the_two_parts_are_weighted(weights):
    node_weight, relation_weight = weights
    options = dataclasses.replace(
        SMALL, relation="difference", node_weight=node_weight, relation_weight=relation_weight
    )
    module = build(options)
    student, teacher, batch = nodes()
    found = module(student, teacher, batch).item()
    assert found == pytest.approx(
        by_loops(module, student.features.numpy(), teacher, batch), rel=1e-6
    )
    assert ("nodes" in module.logs) == (node_weight > 0)
    assert ("relations" in module.logs) == (relation_weight > 0)


@pytest.mark.parametrize("relation", RELATIONS)
def test_one_neighbour_is_the_control(relation):
    """The node part, over the same nodes: with more neighbours only the relations are added."""
    student, teacher, batch = nodes()
    full = build(dataclasses.replace(SMALL, relation=relation))
    control = build(dataclasses.replace(SMALL, relation=relation, num_neighbors=1))
    loss = full(student, teacher, batch)
    alone = control(student, teacher, batch)
    assert full.logs["nodes"] == control.logs["nodes"] == alone
    assert full.logs["relations"] > 0.05
    torch.testing.assert_close(loss, alone + full.logs["relations"])


def test_nodes_away_from_objects_get_no_gradient():
    module = build()
    student, teacher, batch = nodes()
    student.features.requires_grad_()
    module(student, teacher, batch).backward()
    inside = student.features.grad.abs().sum(dim=1) > 0
    distance = torch.cdist(
        student.coords[:, :2], batch["gt_boxes"][0, :1, :2].double().expand(1, 2)
    )
    assert 5 < inside.sum() < 60
    assert not inside[(distance[:, 0] > 8) & (student.batch_index == 0)].any()


def test_objects_that_the_teacher_does_not_detect_count_less():
    """All weight on the objects of frame 1: the student's features in frame 0 hardly matter."""
    student, teacher, batch = nodes()
    seen = torch.where(teacher.batch_index == 1, 1.0, 1e-6)
    student.features.requires_grad_()
    build()(student, dataclasses.replace(teacher, objectness=seen), batch).backward()
    sums = student.features.grad.abs().sum(dim=1)
    assert sums[teacher.batch_index == 0].sum() < 1e-4 * sums[teacher.batch_index == 1].sum()


def test_no_objects_give_a_zero_that_can_be_differentiated():
    student, teacher, _ = nodes()
    student.features.requires_grad_()
    module = build()
    loss = module(student, teacher, {"gt_boxes": torch.zeros(2, 3, 8)})
    loss.backward()
    assert loss == 0
    assert student.features.grad.abs().sum() == 0
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_the_target_is_fixed_after_the_first_batches_and_in_eval_mode():
    student, teacher, batch = nodes()
    module = build()
    for _ in range(20):
        module(student, teacher, batch)
    before = module.statistics.mean.clone()
    other = dataclasses.replace(teacher, features=teacher.features + 5)
    module(student, other, batch)
    assert torch.equal(before, module.statistics.mean)
    fresh = build().eval()
    fresh(student, teacher, batch)
    assert fresh.statistics.steps == 0


def test_teacher_gets_no_gradient_and_learned_parameters_do():
    student, teacher, batch = nodes()
    teacher.features.requires_grad_()
    for relation in RELATIONS:
        module = build(dataclasses.replace(SMALL, relation=relation))
        module(student, teacher.detach(), batch).backward()
        assert teacher.features.grad is None
        assert all(parameter.grad.abs().sum() > 0 for parameter in module.parameters())
    alone = build(dataclasses.replace(SMALL, relation="affinity", node_weight=0.0))
    assert list(alone.parameters()) == []  # nothing that could absorb the difference


def test_mixed_precision_computes_in_float32():
    student, teacher, batch = nodes()
    half = [dataclasses.replace(side, features=side.features.half()) for side in (student, teacher)]
    module = build().float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert module(*half, batch).dtype == torch.float32


def test_every_key_of_a_block_reaches_the_loss():
    other = GraphRelationOptions(
        relation="affinity",
        num_neighbors=3,
        margin_m=0.5,
        node_weight=2.0,
        relation_weight=0.5,
        score="none",
    )
    changed = dataclasses.asdict(other)
    del changed["temperature"]  # of RELATION: attention
    block = {name.upper(): value for name, value in changed.items()}
    assert GraphRelationLoss.from_config(block, STUDENT, TEACHER, "T").options == other
    warm = GraphRelationLoss.from_config(
        {"RELATION": "attention", "TEMPERATURE": 0.7}, STUDENT, TEACHER, "T"
    )
    assert warm.options == GraphRelationOptions(relation="attention", temperature=0.7)


@pytest.mark.parametrize("score, read", [(None, True), ("objectness", True), ("none", False)])
def test_class_scores_are_read_where_they_count(score, read):
    cfg = {"NAME": "GraphRelationLoss", "STUDENT": TAPS[0].path, "TEACHER": TAPS[0].path}
    if score:
        cfg["SCORE"] = score
    term = DistillTerm.from_config(cfg, source(role="student"), source(), "T")
    assert (list(term.teacher.paths)[1:] == ["dense_head.conv_cls"]) == read
    assert list(term.student.paths) == [TAPS[0].path]


@pytest.mark.parametrize(
    "cfg, words",
    [
        ({"RELATION": "angle"}, "T.RELATION: unknown value 'angle'"),
        ({"NUM_NEIGHBORS": 0}, "T.NUM_NEIGHBORS"),
        ({"NODE_WEIGHT": 0, "NUM_NEIGHBORS": 1}, "T.NODE_WEIGHT: 0 leaves nothing to compare"),
        ({"NODE_WEIGHT": 0, "RELATION_WEIGHT": 0}, "T.NODE_WEIGHT: 0 leaves nothing to compare"),
        ({"RELATION": "affinity", "TEMPERATURE": 0.1}, "T.TEMPERATURE: has no effect"),
    ],
)
def test_refused(cfg, words):
    with pytest.raises(ConfigError, match=words):
        GraphRelationLoss.from_config(cfg, STUDENT, TEACHER, "T")


@pytest.mark.parametrize("relation", RELATIONS)
def test_a_student_of_noise_gains_nothing(relation):
    """Fresh noise on both sides: whatever the adapter learns, both parts stay where they were."""
    torch.manual_seed(0)
    module = build(dataclasses.replace(SMALL, relation=relation, margin_m=2.0))
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.01)
    nodes_at, relations_at = [], []
    for step in range(200):
        loss = module(*nodes(seed=step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        nodes_at.append(module.logs["nodes"].item())
        relations_at.append(module.logs["relations"].item())
    assert np.mean(nodes_at[-50:]) > 0.9
    assert np.mean(relations_at[-50:]) > 0.8 * np.mean(relations_at[:20])
