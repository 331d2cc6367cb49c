"""CollapseMonitor: it reports the collapse of trained adapters where the weights fall."""

from __future__ import annotations

import dataclasses
import logging

import pytest
import torch
from made_nodes import tap

from pcdet_distill.distill.losses.collapse import (
    CHECK_EVERY,
    CHECKED_QUERIES,
    CollapseMonitor,
    sample_by_weight,
)
from pcdet_distill.distill.losses.graph import GraphDistillLoss, GraphOptions
from pcdet_distill.distill.losses.graph_options import OFFICIAL
from pcdet_distill.distill.nodes import NodeFeatures

SMALL = {"num_nodes": 50, "num_neighbors": 8, "embed_dim": 8, "score": "saliency"}


def test_queries_are_drawn_by_weight():
    """Of weights 1, 0, 3: a quarter of the places fall on query 0, none on query 1."""
    chosen = sample_by_weight(torch.tensor([1.0, 0.0, 3.0]), 3, torch.device("cpu"))
    assert chosen.tolist() == [0, 2]
    one_hot = torch.zeros(1000).index_fill(0, torch.tensor([700]), 1000.0)
    assert sample_by_weight(one_hot, 1000, torch.device("cpu")).tolist() == [700]


def test_equal_weights_are_sampled_evenly():
    everywhere = sample_by_weight(None, 6400, torch.device("cpu"))
    assert everywhere.tolist() == list(range(49, 6400, 100))
    assert sample_by_weight(None, 5, torch.device("cpu")).tolist() == [0, 1, 2, 3, 4]
    equal = sample_by_weight(torch.full((6400,), 0.3), 6400, torch.device("cpu"))
    assert len(equal) == CHECKED_QUERIES


def test_every_twentieth_step_is_checked():
    monitor = CollapseMonitor()
    due = [step for step in range(100) if monitor.is_due()]
    assert due == list(range(0, 100, CHECK_EVERY))


@pytest.mark.parametrize(
    "values, share",
    [
        ([[0.0, 0.0], [0.0, 2.0]], 0.5),
        ([[3.0, 7.0], [3.0, 7.01]], 1.0),  # constant, whatever its value
        ([[-1.0, -1.0], [1.0, 1.0]], 0.0),
    ],
)
def test_share_of_channels_that_hardly_vary(values, share):
    assert CollapseMonitor().dead_share("student", torch.tensor(values)) == share


def test_a_channel_that_is_zero_but_for_a_few_edges_is_dead():
    edges = torch.zeros(1000, 1)
    edges[:3] = 0.5
    assert CollapseMonitor().dead_share("student", edges) == 1.0


def published_collapse(steps):
    """PRESET: official on pillars, every number of it but the size, with a student of noise.

    As in a scan, few pillars are full, and their features differ from those of the others.

    Returns:
        The loss module, the last nodes of both sides, and the last loss.
    """
    torch.manual_seed(0)
    small = {"num_nodes": 300, "num_neighbors": 16, "embed_dim": 16}
    module = GraphDistillLoss(
        tap(8, "voxel"), tap(16, "voxel"), dataclasses.replace(OFFICIAL["voxel"], **small)
    )
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.01, weight_decay=0.01)
    frame = torch.arange(400) % 2
    counts = torch.randint(1, 20, (400,)).float()
    counts[:8] = 32
    size = torch.where(counts == 32, 0.3, 1.0)[:, None]
    for _ in range(steps):
        student, teacher = (
            NodeFeatures(torch.randn(400, width).relu() * size, frame, torch.zeros(400, 3), counts)
            for width in (8, 16)
        )
        loss = module(student, teacher, {})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return module, student, teacher, loss.item()


def test_the_published_form_is_reported(caplog):
    """It collapses on the full pillars, which alone have weight; all others go on to vary."""
    with caplog.at_level(logging.WARNING):
        module, student, teacher, loss = published_collapse(steps=202)
    assert loss < 0.005
    assert module.logs["dead_teacher"] > 0.9
    assert module.logs["dead_student"] > 0.9
    assert any("teacher's adapter are constant" in line for line in caplog.messages)
    # A sample of all queries alike sees nothing of it.
    queries = torch.arange(0, 400, 6)
    for adapter, nodes in ((module.teacher_adapter, teacher), (module.student_adapter, student)):
        neighbours = queries[:, None]
        tables = adapter(nodes.features, queries, neighbours)
        edges = module.comparison.embed(tables.nodes[neighbours], tables.centres).flatten(0, 1)
        assert CollapseMonitor().dead_share("any", edges) < 0.1


def train_on_noise(options, steps):
    """Loss after training the adapters on a student that is independent of the teacher."""
    torch.manual_seed(0)
    module = GraphDistillLoss(tap(8), tap(16), options)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.01, weight_decay=0.01)
    frame = torch.zeros(100, dtype=torch.long)
    for _ in range(steps):
        sides = [
            NodeFeatures(
                torch.randn(100, width).relu(), frame, torch.zeros(100, 3), torch.rand(100)
            )
            for width in (8, 16)
        ]
        loss = module(*sides, {})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item(), module


def test_noise_collapses_the_published_adapters_with_a_warning_and_not_ours(caplog):
    with caplog.at_level(logging.WARNING):
        loss, module = train_on_noise(dataclasses.replace(GraphOptions(), **SMALL), 301)
        assert loss > 0.9
        assert module.logs["dead_teacher"] == 0
        caplog.clear()  # the student's adapter may well die of noise: the best guess is a constant
        # plain mean weights, as in the measurement that found the collapse
        options = dataclasses.replace(OFFICIAL["voxel"], **SMALL, weighting="none", distance="mse")
        loss, module = train_on_noise(options, 361)
    assert loss < 0.01
    assert module.logs["dead_teacher"] > 0.4
    warned = [record.getMessage() for record in caplog.records]
    assert warned
    assert len(warned) == len(set(warned))
    assert "no longer teaches" in warned[0]


def test_a_single_empty_frame_gives_no_warning(caplog):
    """One empty map is no dead adapter; two checks in a row that meet one are."""
    torch.manual_seed(1)
    module = GraphDistillLoss(tap(3), tap(6), GraphOptions(**{**SMALL, "num_neighbors": 4}))
    frame = torch.arange(40) % 2
    student, teacher = (
        NodeFeatures(torch.randn(40, width), frame, torch.rand(40, 3), torch.rand(40))
        for width in (3, 6)
    )
    empty = dataclasses.replace(teacher, features=torch.zeros_like(teacher.features))
    for looks, warnings in (
        ([empty], 0),
        ([teacher, empty], 0),
        ([empty], 1),
        ([teacher, empty, empty], 1),
    ):
        for side in looks:
            for _ in range(CHECK_EVERY):
                module(student, side, {})
        found = [line for line in caplog.messages if "teacher's adapter are constant" in line]
        assert len(found) == warnings
