"""object_graphs: the nodes of each object against loops, and on a map worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy_relations import evenly, regions

from pcdet_distill.distill.losses.object_graphs import object_graphs


def scene(seed=0, count=300):
    """Places in two frames, and their boxes with padding; one box holds nothing."""
    generator = torch.Generator().manual_seed(seed)
    coords = torch.rand(count, 3, generator=generator, dtype=torch.float64) * 12 - 6
    frames = torch.randint(0, 2, (count,), generator=generator)
    boxes = torch.tensor(
        [
            [[1.0, 2, 0, 4, 2, 1.5, 0.7, 1], [-3, -3, 0, 1, 0.6, 1.7, 2.5, 2]],
            [[90.0, 0, 0, 4, 2, 1.5, 0, 1], [-1, 4, 0, 1.8, 0.6, 1.7, -1.2, 3]],
        ]
    )
    padded = torch.cat([boxes, torch.zeros(2, 2, 8)], dim=1)
    return coords, frames, padded


@pytest.mark.parametrize("count", [1, 2, 5, 16, 500])
@pytest.mark.parametrize("margin", [0.0, 1.0])
def test_against_loops(count, margin):
    coords, frames, boxes = scene()
    graphs = object_graphs(coords, frames, boxes, margin_m=margin, count=count)
    plain_boxes = boxes[:, :2, :7].double().numpy()
    expected = regions(coords[:, :2].numpy(), frames.numpy(), plain_boxes, margin)
    assert len(graphs) == len(expected)
    for number, members in enumerate(expected):
        assert graphs.members[graphs.owners == number].tolist() == members
        assert graphs.rows[number][graphs.is_valid[number]].tolist() == evenly(members, count)
    assert graphs.sizes().tolist() == [len(members) for members in expected]


def test_a_box_on_a_map():
    """Cells of 1 m; a box of 3 x 1 m around cell 5, turned by a quarter, with no margin."""
    x, y = torch.meshgrid(torch.arange(5.0), torch.arange(5.0), indexing="ij")
    coords = torch.stack([x.flatten(), y.flatten(), torch.zeros(25)], dim=1)
    box = torch.tensor([[[1.0, 2.0, 0.0, 3.0, 1.0, 1.0, np.pi / 2, 1.0]]])
    graphs = object_graphs(coords, torch.zeros(25).long(), box, margin_m=0.0, count=2)
    cells = coords[graphs.members, :2].tolist()
    assert cells[0] == [1.0, 2.0]
    assert sorted(cells[1:]) == [[1.0, 1.0], [1.0, 3.0]]
    assert graphs.rows[0, 0] == graphs.members[0]  # the centre, and one of the outermost
    assert graphs.rows[0, 1] == graphs.members[2]


@pytest.mark.parametrize("boxes", [torch.zeros(1, 0, 8), torch.zeros(1, 3, 8)])
def test_no_objects(boxes):
    graphs = object_graphs(torch.rand(5, 3), torch.zeros(5).long(), boxes, margin_m=1.0, count=4)
    assert len(graphs) == 0
    assert graphs.rows.shape == graphs.is_valid.shape == (0, 4)


def test_no_nodes():
    _, _, boxes = scene()
    graphs = object_graphs(torch.rand(0, 3), torch.zeros(0).long(), boxes, margin_m=1.0, count=4)
    assert len(graphs) == 0
