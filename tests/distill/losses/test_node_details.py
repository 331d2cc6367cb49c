"""What losses tell about single nodes: parts that add up to the loss, its weights, its graphs."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from graph_scenes import PRESETS, SMALL, build, scene
from made_nodes import nodes, tap
from plain_graph_loss import nearest_rows, query_weights
from test_graph_relation import build as build_relations
from test_graph_relation import nodes as relation_nodes
from torch.nn import functional

from pcdet_distill.distill.losses.feature_mimic import FeatureMimicLoss
from pcdet_distill.distill.losses.graph_relation import GraphRelationOptions
from pcdet_distill.distill.losses.masked_imitation import (
    MaskedImitationLoss,
    MaskedImitationOptions,
)
from pcdet_distill.distill.losses.node_details import NodeDetails, shares_of

GRAPHS = {
    **{name: dataclasses.replace(options, num_nodes=7.0) for name, options in PRESETS.items()},
    "pooled": dataclasses.replace(SMALL, pool="max"),
    "cosine": dataclasses.replace(SMALL, distance="cosine"),
    "frobenius": dataclasses.replace(SMALL, distance="frobenius", weighting="none"),
    "metres": dataclasses.replace(SMALL, neighbor_space="metres"),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_parts_of_queries_add_up_to_the_graph_loss(name):
    """And weights and neighbours are those of the slow reference."""
    module = build(GRAPHS[name])
    student, teacher = scene()
    details = module.details(student, teacher, {})
    loss = module(student, teacher, {})
    assert float(details.values.sum()) == pytest.approx(float(loss.detach()), rel=1e-9)
    assert bool((details.values >= 0).all())
    queries = details.queries.tolist()
    expected = query_weights(module.options, teacher, details.queries)
    torch.testing.assert_close(details.weights[details.queries], expected)
    assert float(details.weights.sum()) == pytest.approx(float(expected.sum()))
    for row, found in zip(queries, details.neighbours.tolist()):
        reference = nearest_rows(module.options, teacher, row)
        count = min(len(reference), len(found))
        assert set(found) >= set(reference[:count]) and row in found


def test_the_part_of_a_query_is_its_weighted_distance():
    """Computed edge by edge, with the statistics of the trained normalisation."""
    module = build(SMALL).eval()
    student, teacher = scene()
    details = module.details(student, teacher, {})
    for position, query in enumerate(details.queries.tolist()):
        total = 0.0
        for neighbour in details.neighbours[position].tolist():
            embedded = []
            for adapter, side in (
                (module.student_adapter, student),
                (module.teacher_adapter, teacher),
            ):
                edge = torch.cat([side.features[neighbour], side.features[query]])
                value = adapter.weight @ edge - adapter.running_mean
                value = value / (adapter.running_var + 1e-5).sqrt()
                if adapter.gamma is not None:
                    value = value * adapter.gamma + adapter.beta
                embedded.append(value)
            total += float((embedded[0] - embedded[1]).square().sum().detach())
        count = details.neighbours.numel() * module.width
        expected = float(details.weights[query]) * total / count
        assert float(details.values[query]) == pytest.approx(expected, rel=1e-9)


def test_the_common_space_of_a_graph_is_the_edge_from_a_node_to_itself():
    module = build(SMALL).eval()
    student, teacher = scene()
    of_student, of_teacher = module.common_space(student.features, teacher.features)
    for adapter, side, found in (
        (module.student_adapter, student, of_student),
        (module.teacher_adapter, teacher, of_teacher),
    ):
        edges = torch.cat([side.features, side.features], dim=1)
        gamma, beta = adapter.gamma, adapter.beta
        expected = functional.batch_norm(
            edges @ adapter.weight.t(), adapter.running_mean, adapter.running_var, gamma, beta
        )
        torch.testing.assert_close(found, expected.detach())


@pytest.mark.parametrize("relation", ["difference", "affinity", "attention"])
@pytest.mark.parametrize("count", [1, 4])
def test_parts_of_nodes_add_up_to_the_relation_loss(relation, count):
    options = GraphRelationOptions(relation=relation, num_neighbors=count)
    module = build_relations(options).eval()
    student, teacher, batch = relation_nodes()
    details = module.details(student, teacher, batch)
    loss = module(student, teacher, batch)
    assert float(details.values.sum()) == pytest.approx(float(loss.detach()), rel=1e-6)
    assert float(details.weights.sum()) == pytest.approx(1.0)
    in_a_region = details.weights > 0
    assert 0 < int(in_a_region.sum()) < len(teacher)
    assert bool(in_a_region[details.neighbours[details.is_neighbour]].all())
    assert bool((details.values[~in_a_region] == 0).all())


def test_a_frame_without_labels_has_no_parts():
    student, teacher, batch = relation_nodes()
    details = build_relations().details(student, teacher, {"gt_boxes": batch["gt_boxes"] * 0})
    assert float(details.values.abs().sum()) == float(details.weights.sum()) == 0
    assert len(details.queries) == 0


def test_parts_of_imitated_nodes():
    """Mimic: equal weights. Masked imitation: the weights of the mask."""
    torch.manual_seed(0)
    student = nodes(torch.randn(6, 2), coords=torch.arange(18.0).view(6, 3))
    teacher = nodes(torch.randn(6, 3), coords=torch.arange(18.0).view(6, 3))
    mimic = FeatureMimicLoss(tap(2), tap(3))
    details = mimic.details(student, teacher, {})
    assert float(details.values.sum()) == pytest.approx(
        float(mimic(student, teacher, {}).detach()), rel=1e-6
    )
    assert details.weights.tolist() == [1.0] * 6
    boxes = torch.tensor([[[3.0, 4.0, 5.0, 4.0, 4.0, 4.0, 0.0, 1.0]]])
    masked = MaskedImitationLoss(tap(2), tap(3), MaskedImitationOptions(mask="box", background=0))
    details = masked.eval().details(student, teacher, {"gt_boxes": boxes})
    loss = masked(student, teacher, {"gt_boxes": boxes})
    assert float(details.values.sum()) == pytest.approx(float(loss.detach()), rel=1e-6)
    assert details.weights.tolist() == [0.0, 1.0, 0.0, 0.0, 0.0, 0.0]


def test_details_without_graphs_and_shares_of_nothing():
    details = NodeDetails.of_nodes(torch.ones(3), torch.zeros(3))
    assert len(details.queries) == len(details.neighbours) == 0
    assert shares_of(torch.tensor(2.0), torch.zeros(3)).tolist() == [0.0, 0.0, 0.0]
    assert shares_of(torch.tensor(2.0), torch.tensor([1.0, 3.0])).tolist() == [0.5, 1.5]
