"""GraphDistillLoss on frames with no node, one, or fewer than it asks for."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from graph_scenes import PRESETS, SMALL, build, gradients, scene


def in_frames(sides, batch_index):
    """Student and teacher with their nodes in the given frames."""
    batch_index = torch.tensor(batch_index)
    return [dataclasses.replace(side, batch_index=batch_index) for side in sides]


def test_no_nodes_give_a_zero_that_can_be_differentiated():
    student, teacher = scene(count=0)
    module = build()
    loss = module(student, teacher, {})
    assert loss.item() == 0
    for name, gradient in gradients(loss, module, student).items():
        assert gradient.abs().sum() == 0, name


@pytest.mark.parametrize("preset", PRESETS)
def test_one_node_gives_a_finite_loss(preset):
    student, teacher = scene(count=1, frames=1)
    assert torch.isfinite(build(PRESETS[preset])(student, teacher, {}))


@pytest.mark.parametrize("preset", PRESETS)
def test_fewer_nodes_than_neighbours_give_a_finite_loss_and_gradient(preset):
    module = build(PRESETS[preset])
    student, teacher = scene(count=5, frames=3)
    loss = module(student, teacher, {})
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(student.features.grad).all()


@pytest.mark.parametrize("mix_frames, fullest", [(False, 5), (True, 8)])
def test_more_neighbours_than_there_are_nodes_are_left_out(mix_frames, fullest):
    """Frames of 5 and 3 nodes, or one of 8: 10^9 neighbours become those of the fullest frame."""
    sides = in_frames(scene(count=8), [0] * 5 + [1] * 3)
    losses = []
    for num_neighbors in (fullest, 10**9):
        options = dataclasses.replace(SMALL, num_neighbors=num_neighbors, mix_frames=mix_frames)
        losses.append(build(options)(*sides, {}).item())
    assert losses[0] == losses[1]
    assert losses[0] > 0


@pytest.mark.parametrize("preset", PRESETS)
def test_an_empty_frame_among_others(preset):
    """Frame 1 of three has no nodes, frame 2 has fewer than K and fewer than the queries."""
    student, teacher = in_frames(scene(count=12), [0] * 9 + [2] * 3)
    module = build(dataclasses.replace(PRESETS[preset], num_nodes=5, num_neighbors=4))
    # 5 of all 12 nodes, or 5 of the 9 and all 3.
    expected_queries = 5 if PRESETS[preset].mix_frames else 8
    assert len(module.choose_queries(teacher)) == expected_queries
    loss = module(student, teacher, {})
    assert torch.isfinite(loss)
    for name, gradient in gradients(loss, module, student).items():
        assert torch.isfinite(gradient).all(), name
