"""Rotated overlap and NMS by Triton against their plain versions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from pcdet_distill.ops import dispatch
from pcdet_distill.ops.boxes import OVERLAP_BEV, boxes_iou3d, boxes_iou_bev, boxes_overlap_bev_plain
from pcdet_distill.ops.nms import GREEDY_NMS, greedy_nms_plain


def cars(seed: int, count: int, device: torch.device, spread_m: float = 5.0) -> Tensor:
    """Boxes (count, 7) of about the size of cars, a view of a wider tensor."""
    rng = np.random.default_rng(seed)
    boxes = rng.uniform(-1, 1, (count, 9)) * (spread_m, spread_m, 1, 1, 0.5, 0.3, 4, 0, 0)
    boxes[:, 3:6] += (3.9, 1.8, 1.5)
    return torch.from_numpy(boxes.astype(np.float32)).to(device)[:, :7]


@pytest.mark.parametrize(("count_a", "count_b"), [(1, 1), (2, 35), (0, 3), (3, 0)])
def test_overlaps(count_a: int, count_b: int, device: torch.device) -> None:
    boxes_a = cars(1, count_a, device, spread_m=1.0)
    boxes_b = cars(2, count_b, device, spread_m=1.0)
    found = OVERLAP_BEV.triton_form()(boxes_a, boxes_b)
    plain = boxes_overlap_bev_plain(boxes_a, boxes_b)
    assert not plain.numel() or plain.any()
    torch.testing.assert_close(found, plain, rtol=1e-5, atol=2e-5)


def test_boxes_that_are_equal_turned_far_or_empty(device: torch.device) -> None:
    """Coinciding edges and corners: the margin decides what is inside."""
    boxes = torch.tensor(
        [
            [0, 0, 0, 4, 2, 1, 0],
            [0, 0, 0, 4, 2, 1, np.pi / 2],
            [0, 0, 0, 4, 2, 1, np.pi],
            [2, 1, 0, 4, 2, 1, 0],
            [4, 0, 0, 4, 2, 1, 0],
            [100, 0, 0, 4, 2, 1, 0.3],
            [0, 0, 0, 0, 0, 0, 0],
        ],
        device=device,
    )
    found = OVERLAP_BEV.triton_form()(boxes, boxes)
    torch.testing.assert_close(found, boxes_overlap_bev_plain(boxes, boxes), rtol=1e-5, atol=2e-5)
    assert found[0, 0] == pytest.approx(8, abs=0.2)
    assert not found[5, :5].any()


@pytest.mark.parametrize("function", [boxes_iou_bev, boxes_iou3d])
def test_public_functions(function, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    boxes_a = cars(3, 6, device, spread_m=1.0)
    boxes_b = cars(4, 5, device, spread_m=1.0)
    monkeypatch.setenv(dispatch.VARIABLE, "plain")
    plain = function(boxes_a, boxes_b)
    monkeypatch.setenv(dispatch.VARIABLE, "triton")
    torch.testing.assert_close(function(boxes_a, boxes_b), plain, rtol=1e-5, atol=1e-5)
    assert plain.max() > 0.2


@pytest.mark.parametrize(("count", "limit"), [(0, 3), (1, 3), (6, None), (40, None), (40, 5)])
@pytest.mark.parametrize("rotated", [True, False])
def test_nms(count: int, limit: int | None, rotated: bool, device: torch.device) -> None:
    """Fewer boxes than a word has bits, and more."""
    boxes = cars(5, count, device, spread_m=13.0)
    found = GREEDY_NMS.triton_form()(boxes, 0.1, rotated, limit)
    plain = greedy_nms_plain(boxes, 0.1, rotated, limit)
    assert torch.equal(found, plain)
    assert count < 40 or len(plain) == (limit or len(plain)) < count


def test_nms_of_many_equal_boxes(device: torch.device) -> None:
    """The first of each place stays; the last box is in the second word."""
    boxes = torch.tensor([[0.0, 0, 0, 4, 2, 1, 0.1]], device=device).repeat(34, 1)
    boxes[1:, 0] = 50
    boxes[33, 0] = 0
    assert GREEDY_NMS.triton_form()(boxes, 0.5, False).tolist() == [0, 1]


@pytest.mark.parametrize("threshold", [0.5, 0.49])
def test_suppression_needs_more_than_the_threshold(threshold: float, device: torch.device) -> None:
    """The second box is half of the first: an IoU of exactly 0.5."""
    boxes = torch.tensor([[0.0, 0, 0, 4, 2, 1, 0], [1, 0, 0, 2, 2, 1, 0]], device=device)
    kept = GREEDY_NMS.triton_form()(boxes, threshold, False)
    assert kept.tolist() == ([0, 1] if threshold == 0.5 else [0])
