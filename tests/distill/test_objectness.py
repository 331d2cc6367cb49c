"""SCORE: objectness: the class scores of the teacher's head decide which nodes matter."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from pcdet_distill.distill.distill_head import DistillTerm, TapSource
from pcdet_distill.distill.losses.graph import GraphDistillLoss, GraphOptions
from pcdet_distill.distill.node_converters import bev_nodes, point_nodes, voxel_nodes
from pcdet_distill.distill.node_matching import with_objectness
from pcdet_distill.distill.nodes import NodeFeatures, NodeGrid
from pcdet_distill.errors import ConfigError, DataError
from pcdet_distill.models.taps import TapInfo

GRID = NodeGrid((1.0, 1.0, 4.0), (0.0, 0.0, -3.0), (4, 4, 1))
TAPS = [
    TapInfo("vfe@pillar_features", 3, 1, "voxel"),
    TapInfo("dense_head.conv_cls", 2, 2, "bev"),
    TapInfo("dense_head.conv_box", 7, 2, "bev"),
    TapInfo("point_head.cls_layers", 1, None, "point"),
]
CFG = {
    "NAME": "GraphDistillLoss",
    "STUDENT": "vfe@pillar_features",
    "TEACHER": "vfe@pillar_features",
    "SCORE": "objectness",
    "NUM_NODES": 2,
    "NUM_NEIGHBORS": 2,
    "EMBED_DIM": 2,
}


def source(taps=TAPS, role="teacher"):
    scores = [tap.path for tap in taps if tap.path.endswith(("conv_cls", "hm", "cls_layers"))]
    return TapSource(role, {tap.path: tap for tap in taps}, GRID, score_paths=tuple(scores))


def batch():
    coords = torch.tensor([[0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 3, 2], [0, 0, 0, 3]])
    return {
        "voxel_coords": coords,
        "voxel_num_points": torch.tensor([9.0, 8, 7, 6]),
        "point_coords": torch.tensor([[0, 0.5, 0.5, -1], [0, 1.5, 1.5, -1]]),
    }


def logits():
    """(1, 2, 2, 2) so that the quarters of the map have the largest logits -9, 2, 1 and 0."""
    return torch.tensor([[[[-9.0, 2], [-5, 0]], [[-9, -9], [1, -1]]]])


def pillars():
    return voxel_nodes(torch.arange(12.0).view(4, 3), batch(), GRID)


def test_pillars_take_the_score_of_their_cell():
    nodes = with_objectness(pillars(), [bev_nodes(logits(), {}, GRID.coarsen(2))])
    expected = torch.tensor([-9.0, -9, 0, 2]).sigmoid()
    torch.testing.assert_close(nodes.objectness, expected)
    torch.testing.assert_close(nodes.select(torch.tensor([3])).objectness, expected[3:])


def test_points_without_a_score_have_none_and_the_best_head_counts():
    near = point_nodes(
        torch.tensor([[1.0], [3.0]]),
        {"point_coords": torch.tensor([[0, 0.5, 0.5, -1], [0, 9, 9, 9]])},
        None,
    )
    other = point_nodes(torch.tensor([[2.0, 0.0], [0.0, 0.0]]), batch(), None)
    nodes = point_nodes(torch.zeros(2, 3), batch(), None)
    torch.testing.assert_close(
        with_objectness(nodes, [near]).objectness, torch.tensor([1.0, -1e9]).sigmoid()
    )
    torch.testing.assert_close(
        with_objectness(nodes, [near, other]).objectness, torch.tensor([2.0, 0.0]).sigmoid()
    )
    torch.testing.assert_close(
        with_objectness(nodes, [other, near]).objectness, torch.tensor([2.0, 0.0]).sigmoid()
    )


def test_no_nodes_no_scores():
    nothing = point_nodes(torch.zeros(0, 3), {"point_coords": torch.zeros(0, 4)}, None)
    assert with_objectness(
        nothing, [bev_nodes(logits(), {}, GRID.coarsen(2))]
    ).objectness.shape == (0,)


def test_a_term_finds_the_scores_of_the_first_stage():
    term = DistillTerm.from_config(CFG, source(role="student"), source(), "T")
    assert list(term.student.paths) == ["vfe@pillar_features"]
    assert list(term.teacher.paths) == ["vfe@pillar_features", "dense_head.conv_cls"]
    features = {"vfe@pillar_features": torch.randn(4, 3), "dense_head.conv_cls": logits()}
    nodes = term.teacher.read(features, batch(), detached=True)
    assert sorted(term.loss.choose_queries(nodes).tolist()) == [
        2,
        3,
    ]  # not 0 and 1, which hold more points
    named = DistillTerm.from_config(
        {**CFG, "SCORE_TAP": "point_head.cls_layers"}, source(role="student"), source(), "T"
    )
    assert list(named.teacher.paths)[1:] == ["point_head.cls_layers"]
    points_only = DistillTerm.from_config(CFG, source(role="student"), source(TAPS[::3]), "T")
    assert list(points_only.teacher.paths)[1:] == ["point_head.cls_layers"]
    heads = [
        TapInfo(f"dense_head.heads_list.{number}.hm", 1, 2, "bev") for number in (0, 1)
    ]  # CenterHead's
    several = DistillTerm.from_config(
        CFG, source(role="student"), source([TAPS[0], TAPS[3], *heads]), "T"
    )
    assert list(several.teacher.paths)[1:] == [head.path for head in heads]
    plain = DistillTerm.from_config(
        {**CFG, "SCORE": "saliency"}, source(role="student"), source(), "T"
    )
    assert list(plain.teacher.paths) == ["vfe@pillar_features"]


@pytest.mark.parametrize(
    "change, taps, words",
    [
        (
            {"SCORE_TAP": "dense_head.conv_clss"},
            TAPS,
            "T.SCORE_TAP: the teacher has no tap.*mean 'dense_head.conv_c",
        ),
        ({}, TAPS[:1], "T.SCORE_TAP: the teacher has no tap of class scores"),
        (
            {"SCORE": "norm", "SCORE_TAP": "dense_head.conv_cls"},
            TAPS,
            "no effect without SCORE: objectness",
        ),
    ],
)
def test_refused(change, taps, words):
    with pytest.raises(ConfigError, match=words):
        DistillTerm.from_config({**CFG, **change}, source(role="student"), source(taps), "T")


def test_nodes_without_objectness_are_named():
    tap = TapInfo("t", 3, 1, "voxel")
    loss = GraphDistillLoss(tap, tap, GraphOptions(score="objectness"))
    zeros = torch.zeros(2, dtype=torch.long)
    nodes = NodeFeatures(torch.zeros(2, 3), zeros, torch.zeros(2, 3), torch.ones(2))
    with pytest.raises(DataError, match="carry none"):
        loss(nodes, nodes, SimpleNamespace())
