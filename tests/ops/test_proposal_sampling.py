"""Points near proposals, and furthest points by sectors: brute force, few points, padding."""

from __future__ import annotations

from math import ceil

import numpy as np
import torch

from pcdet_distill.ops.point_sampling import furthest_point_sample_plain
from pcdet_distill.ops.proposal_sampling import near_boxes, sector_furthest_point_sample


def test_points_near_the_closest_box() -> None:
    random = np.random.default_rng(0)
    points = torch.from_numpy(random.uniform(-20, 20, (400, 3)).astype(np.float32))
    boxes = torch.from_numpy(
        random.uniform([-20, -20, -2, 0.5, 0.5, 0.5, -3], [20, 20, 2, 5, 5, 5, 3], (9, 7))
    )
    near = near_boxes(points, boxes.float(), 1.6)
    for point, found in zip(points.numpy(), near):
        distance = np.linalg.norm(boxes[:, :3].numpy() - point, axis=1)
        closest = boxes[distance.argmin(), 3:6].numpy()
        assert found == (distance.min() < np.linalg.norm(closest) / 2 + 1.6)
    assert near.any()
    assert not near.all()


def test_padding_is_no_proposal() -> None:
    points = torch.zeros(3, 3)
    padding = torch.zeros(2, 7)
    assert not near_boxes(points, padding, 5.0).any()
    box = torch.tensor([[100.0, 0, 0, 4, 2, 2, 0]])
    assert not near_boxes(points, torch.cat([box, padding]), 5.0).any()
    assert near_boxes(points[:0], box, 5.0).shape == (0,)


def test_a_sector_gets_its_share() -> None:
    random = np.random.default_rng(1)
    points = torch.from_numpy(random.uniform(-30, 30, (500, 3)).astype(np.float32))
    rows = sector_furthest_point_sample(points, 60, 6)
    sector = np.floor(
        (np.arctan2(points[:, 1].numpy(), points[:, 0].numpy()) + np.pi) / (np.pi / 3)
    ).astype(int)
    at = 0
    for number in range(6):
        own = np.flatnonzero(sector == number)
        share = ceil(len(own) / 500 * 60)
        expected = own[furthest_point_sample_plain(points[own], share, 1024).numpy()]
        assert rows[at : at + share].tolist() == expected.tolist()
        at += share
    assert at == len(rows)


def test_few_points_are_all_taken_once() -> None:
    points = torch.tensor([[5.0, 0, 0], [-1.0, 0, 0], [0, 3.0, 0], [0.0, 0, 0], [6.0, 0.5, 0]])
    assert sorted(sector_furthest_point_sample(points, 100, 6).tolist()) == [0, 1, 2, 3, 4]
    assert sector_furthest_point_sample(points[:1], 100, 6).tolist() == [0]
    assert sector_furthest_point_sample(points[:0], 100, 6).shape == (0,)
    assert sector_furthest_point_sample(points, 2, 1).tolist() == [0, 1]
