"""NMS against brute force on exact polygons, at ties and thresholds, plain and compiled."""

from __future__ import annotations

import exact_polygons
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pcdet_distill.errors import ConfigError
from pcdet_distill.ops import nms as nms_ops

CONFIG = {"NMS_TYPE": "nms_gpu", "NMS_THRESH": 0.3, "NMS_PRE_MAXSIZE": 50, "NMS_POST_MAXSIZE": 10}


def crowd(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Boxes (count, 7) in a few clusters, and different scores (count,)."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(-12, 12, (max(1, count // 8), 7)) * (1, 1, 0.1, 0, 0, 0, 0.2) + (
        0,
        0,
        0,
        3.9,
        1.6,
        1.5,
        0,
    )
    noise = rng.normal(0, (0.5, 0.3, 0.1, 0.1, 0.05, 0.05, 0.2), (count, 7))
    boxes = centres[rng.integers(0, len(centres), count)] + noise
    return torch.from_numpy(boxes.astype(np.float32)), torch.from_numpy(
        rng.permutation(count).astype(np.float32)
    )


def brute_force(iou: np.ndarray, scores: np.ndarray, thresh: float) -> list[int]:
    kept: list[int] = []
    for candidate in np.argsort(-scores, kind="stable"):
        if all(iou[candidate, other] <= thresh for other in kept):
            kept.append(int(candidate))
    return kept


def aligned_matrix(boxes: np.ndarray) -> np.ndarray:
    flat = boxes.copy()
    flat[:, 6] = 0
    return exact_polygons.iou_matrix(flat, flat)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("thresh", [0.01, 0.3, 0.7])
def test_nms_equals_brute_force_on_exact_polygons(seed: int, thresh: float) -> None:
    boxes, scores = crowd(60, seed)
    for function, matrix in (
        (nms_ops.nms, exact_polygons.iou_matrix(boxes.numpy(), boxes.numpy())),
        (nms_ops.nms_normal, aligned_matrix(boxes.numpy())),
    ):
        # The approximate IoU may put such a pair on the other side of the threshold.
        doubtful = np.unique(np.argwhere(np.triu(np.abs(matrix - thresh) < 3e-3, 1))[:, 1])
        rows = np.setdiff1d(np.arange(60), doubtful)
        kept = function(boxes[rows], scores[rows], thresh)
        assert len(rows) > 40
        assert kept.tolist() == brute_force(
            matrix[np.ix_(rows, rows)], scores.numpy()[rows], thresh
        )


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.integers(1, 80),
    st.integers(0, 10_000),
    st.sampled_from([0.01, 0.1, 0.5, 0.8]),
    st.booleans(),
)
def test_plain_nms_equals_the_compiled_one(
    count: int, seed: int, thresh: float, rotated: bool
) -> None:
    boxes, scores = crowd(count, seed)
    function = nms_ops.nms if rotated else nms_ops.nms_normal
    order = scores.argsort(descending=True)
    kept = nms_ops.greedy_nms_plain(boxes[order], thresh, rotated)
    assert torch.equal(order[kept], function(boxes, scores, thresh))


def test_nms_on_the_device_equals_the_cpu(device: torch.device) -> None:
    boxes, scores = crowd(500, 3)
    kept = nms_ops.nms(boxes.to(device), scores.to(device), 0.1)
    assert torch.equal(kept.cpu(), nms_ops.nms(boxes, scores, 0.1))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.randoms(use_true_random=False))
def test_the_order_of_the_input_is_irrelevant(random) -> None:
    boxes, scores = crowd(40, 5)
    rows = list(range(40))
    random.shuffle(rows)
    kept = nms_ops.nms(boxes[rows], scores[rows], 0.2)
    assert torch.tensor(rows)[kept].tolist() == nms_ops.nms(boxes, scores, 0.2).tolist()


def test_equal_scores_keep_the_earlier_row() -> None:
    boxes = torch.tensor([[0.0, 0, 0, 2, 2, 2, 0]]).repeat(5, 1)
    assert nms_ops.nms(boxes, torch.ones(5), 0.5).tolist() == [0]
    apart = boxes.clone()
    apart[:, 0] = torch.arange(5) * 10
    assert nms_ops.nms(apart, torch.ones(5), 0.5).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("plain", [True, False])
def test_suppression_needs_more_than_the_threshold(plain: bool) -> None:
    halves = torch.tensor(
        [[0.0, 0, 0, 4, 2, 1, 0], [1, 0, 0, 2, 2, 1, 0]]
    )  # axis-aligned IoU exactly 0.5
    for thresh, expected in ((0.5, [0, 1]), (0.49, [0])):
        kept = (
            nms_ops.greedy_nms_plain(halves, thresh, rotated=False)
            if plain
            else nms_ops.nms_normal(halves, torch.tensor([2.0, 1.0]), thresh)
        )
        assert kept.tolist() == expected


@pytest.mark.parametrize("plain", [True, False])
def test_a_suppressed_box_suppresses_nothing(plain: bool) -> None:
    chain = torch.tensor(
        [[float(x), 0, 0, 4, 2, 1, 0] for x in range(0, 12, 2)]
    )  # neighbours: IoU 1/3
    kept = (
        nms_ops.greedy_nms_plain(chain, 0.3, rotated=True)
        if plain
        else nms_ops.nms(chain, torch.arange(6, 0, -1.0), 0.3)
    )
    assert kept.tolist() == [0, 2, 4]


def test_sizes_before_and_after() -> None:
    boxes, scores = crowd(60, 8)
    everything = nms_ops.nms(boxes, scores, 0.9)
    assert len(everything) > 20
    assert nms_ops.nms(boxes, scores, 0.9, post_maxsize=7).tolist() == everything[:7].tolist()
    best = scores.argsort(descending=True)[:10]
    of_the_best = best[nms_ops.nms(boxes[best], scores[best], 0.9)]
    assert nms_ops.nms(boxes, scores, 0.9, pre_maxsize=10).tolist() == of_the_best.tolist()


def test_empty_input(device: torch.device) -> None:
    boxes = torch.zeros(0, 7, device=device)
    scores = torch.zeros(0, device=device)
    assert nms_ops.nms(boxes, scores, 0.1).shape == (0,)
    assert nms_ops.nms_normal(boxes, scores, 0.1, 10, 5).shape == (0,)
    selected, kept_scores = nms_ops.class_agnostic_nms(scores, boxes, CONFIG, 0.1)
    assert selected.shape == kept_scores.shape == (0,)
    got = nms_ops.multi_classes_nms(torch.zeros(0, 3, device=device), boxes, CONFIG, 0.1)
    assert [value.shape for value in got] == [(0,), (0,), (0, 7)]


def test_inputs_are_unchanged() -> None:
    boxes, scores = crowd(50, 9)
    before = boxes.clone(), scores.clone()
    nms_ops.class_agnostic_nms(scores, boxes, CONFIG, 10.0)
    nms_ops.multi_classes_nms(scores[:, None].repeat(1, 2), boxes, CONFIG, 10.0)
    assert torch.equal(boxes, before[0])
    assert torch.equal(scores, before[1])


def test_class_agnostic_nms_takes_scores_equal_to_the_threshold() -> None:
    boxes = torch.zeros(3, 7)
    boxes[:, 0] = torch.arange(3) * 10.0
    boxes[:, 3:6] = 1.0
    scores = torch.tensor([0.2, 0.5, 0.9])
    selected, kept_scores = nms_ops.class_agnostic_nms(scores, boxes, CONFIG, score_thresh=0.5)
    assert selected.tolist() == [2, 1]
    assert torch.equal(kept_scores, scores[[2, 1]])
    assert nms_ops.class_agnostic_nms(scores, boxes, CONFIG)[0].tolist() == [2, 1, 0]
    assert nms_ops.class_agnostic_nms(scores, boxes, CONFIG, score_thresh=1.0)[0].tolist() == []


def test_scores_that_are_not_numbers_are_dropped_by_a_threshold() -> None:
    boxes, scores = crowd(5, 10)
    scores[2] = torch.nan
    assert 2 not in nms_ops.class_agnostic_nms(scores, boxes, CONFIG, score_thresh=0.0)[0].tolist()


def test_multi_classes_nms_suppresses_within_a_class_only() -> None:
    boxes = torch.tensor([[0.0, 0, 0, 4, 2, 1, 0], [0.1, 0, 0, 4, 2, 1, 0]])
    cls_scores = torch.tensor([[0.9, 0.2], [0.8, 0.7]])
    scores, labels, kept = nms_ops.multi_classes_nms(cls_scores, boxes, CONFIG, score_thresh=0.5)
    assert labels.tolist() == [0, 1]
    assert torch.equal(scores, torch.tensor([0.9, 0.7]))
    assert torch.equal(kept, boxes)


def test_error_of_a_misspelt_type() -> None:
    boxes, scores = crowd(2, 11)
    with pytest.raises(ConfigError, match="NMS_CONFIG.NMS_TYPE.*did you mean 'nms_gpu'"):
        nms_ops.class_agnostic_nms(scores, boxes, {**CONFIG, "NMS_TYPE": "nms_gpuu"})


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    boxes, scores = crowd(400, 12)
    threads = torch.get_num_threads()
    results = []
    for count in (1, 2):
        torch.set_num_threads(count)
        results.append(
            (
                nms_ops.nms(boxes, scores, 0.1),
                nms_ops.greedy_nms_plain(boxes[scores.argsort(descending=True)], 0.1, True),
            )
        )
    torch.set_num_threads(threads)
    assert all(torch.equal(one, two) for one, two in zip(*results))
