"""Points near proposals, and furthest points by sectors: brute force, few points, padding."""

from __future__ import annotations

import math

import numpy as np
import torch

from pcdet_distill.ops.point_sampling import furthest_point_sample_plain
from pcdet_distill.ops.proposal_sampling import (
    near_boxes,
    sample_sectors,
    sector_furthest_point_sample,
)


def test_points_near_the_closest_box() -> None:
    """Nearer to the closest centre than half the diagonal of its box and the margin."""
    margin_m = 1.6
    rng = np.random.default_rng(0)
    points = rng.uniform(-20, 20, (400, 3)).astype(np.float32)
    lower = [-20, -20, -2, 0.5, 0.5, 0.5, -3]
    upper = [20, 20, 2, 5, 5, 5, 3]
    boxes = rng.uniform(lower, upper, (9, 7))
    near = near_boxes(torch.from_numpy(points), torch.from_numpy(boxes).float(), margin_m)
    for point, is_near in zip(points, near):
        distances = np.linalg.norm(boxes[:, :3] - point, axis=1)
        closest = distances.argmin()
        half_diagonal = np.linalg.norm(boxes[closest, 3:6]) / 2
        assert is_near == (distances[closest] < half_diagonal + margin_m)
    assert near.any()
    assert not near.all()


def test_padding_is_no_proposal() -> None:
    points = torch.zeros(3, 3)
    padding = torch.zeros(2, 7)
    far_box = torch.tensor([[100.0, 0, 0, 4, 2, 2, 0]])
    assert not near_boxes(points, padding, 5.0).any()
    assert not near_boxes(points, torch.cat([far_box, padding]), 5.0).any()


def test_no_points_are_near() -> None:
    box = torch.tensor([[0.0, 0, 0, 4, 2, 2, 0]])
    assert near_boxes(torch.zeros(0, 3), box, 5.0).shape == (0,)


def test_a_sector_gets_its_share() -> None:
    """Of 60 samples each of the six sectors gets its share of the points, rounded up."""
    rng = np.random.default_rng(1)
    points = torch.from_numpy(rng.uniform(-30, 30, (500, 3)).astype(np.float32))
    rows = sector_furthest_point_sample(points, 60, 6).tolist()
    x, y, _ = points.numpy().T
    angle_from_zero = np.arctan2(y, x) + np.pi
    sector = np.floor(angle_from_zero / (np.pi / 3)).astype(int)
    expected = []
    for number in range(6):
        own_rows = np.flatnonzero(sector == number)
        share = math.ceil(60 * len(own_rows) / 500)
        chosen = furthest_point_sample_plain(points[own_rows], share, 1024)
        expected += own_rows[chosen.numpy()].tolist()
    assert rows == expected


def test_frames_of_a_batch_are_sampled_as_if_alone() -> None:
    """Three frames, the second one without candidates, every third point no candidate."""
    generator = torch.Generator().manual_seed(2)
    counts = [90, 40, 130]
    points = 60 * torch.rand(sum(counts), 3, generator=generator) - 30
    frame = torch.arange(3).repeat_interleave(torch.tensor(counts))
    is_candidate = (torch.arange(len(points)) % 3 > 0) & (frame != 1)
    found = sample_sectors(points, frame, is_candidate, 3, 24, num_sectors=6)
    expected = []
    for number in range(3):
        rows = torch.nonzero(is_candidate & (frame == number))[:, 0]
        expected.append(rows[sector_furthest_point_sample(points[rows], 24, 6)])
    assert found.tolist() == torch.cat(expected).tolist()
    assert set(frame[found].tolist()) == {0, 2}


FIVE_POINTS = torch.tensor([[5.0, 0, 0], [-1.0, 0, 0], [0.0, 3.0, 0], [0.0, 0, 0], [6.0, 0.5, 0]])


def test_few_points_are_all_taken_once() -> None:
    rows = sector_furthest_point_sample(FIVE_POINTS, 100, 6)
    assert sorted(rows.tolist()) == [0, 1, 2, 3, 4]
    assert sector_furthest_point_sample(FIVE_POINTS[:1], 100, 6).tolist() == [0]
    assert sector_furthest_point_sample(FIVE_POINTS[:0], 100, 6).shape == (0,)


def test_one_sector_is_plain_furthest_point_sampling() -> None:
    """From the point at x = 5, the one at x = -1 is furthest."""
    assert sector_furthest_point_sample(FIVE_POINTS, 2, 1).tolist() == [0, 1]
