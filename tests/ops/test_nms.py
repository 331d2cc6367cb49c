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
    num_clusters = max(1, count // 8)
    clusters = rng.uniform(-12, 12, (num_clusters, 7)) * (1, 1, 0.1, 0, 0, 0, 0.2)
    clusters[:, 3:6] = (3.9, 1.6, 1.5)
    noise = rng.normal(0, (0.5, 0.3, 0.1, 0.1, 0.05, 0.05, 0.2), (count, 7))
    boxes = clusters[rng.integers(0, num_clusters, count)] + noise
    scores = rng.permutation(count)
    return torch.from_numpy(boxes.astype(np.float32)), torch.from_numpy(scores.astype(np.float32))


def brute_force(iou: np.ndarray, scores: np.ndarray, thresh: float) -> list[int]:
    """Keep a box unless it overlaps one that is kept and has a better score."""
    kept: list[int] = []
    for candidate in np.argsort(-scores, kind="stable"):
        if all(iou[candidate, other] <= thresh for other in kept):
            kept.append(int(candidate))
    return kept


def rotated_matrix(boxes: np.ndarray) -> np.ndarray:
    """The exact IoU of all pairs of boxes."""
    return exact_polygons.iou_matrix(boxes, boxes)


def aligned_matrix(boxes: np.ndarray) -> np.ndarray:
    """The exact IoU of all pairs, as if no box were turned."""
    straight = boxes.copy()
    straight[:, 6] = 0
    return exact_polygons.iou_matrix(straight, straight)


def rows_without_close_calls(iou: np.ndarray, thresh: float) -> np.ndarray:
    """Rows whose IoUs with each other are all clearly above or below the threshold.

    The approximate IoU may put any other pair on the other side of it.
    """
    is_close = np.abs(iou - thresh) < 3e-3
    _, second_of_close_pairs = np.nonzero(np.triu(is_close, k=1))
    return np.setdiff1d(np.arange(len(iou)), second_of_close_pairs)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("thresh", [0.01, 0.3, 0.7])
@pytest.mark.parametrize(
    "nms, exact_iou",
    [(nms_ops.nms, rotated_matrix), (nms_ops.nms_normal, aligned_matrix)],
)
def test_nms_equals_brute_force_on_exact_polygons(nms, exact_iou, seed: int, thresh: float) -> None:
    boxes, scores = crowd(60, seed)
    rows = rows_without_close_calls(exact_iou(boxes.numpy()), thresh)
    assert len(rows) > 40
    iou = exact_iou(boxes[rows].numpy())
    expected = brute_force(iou, scores[rows].numpy(), thresh)
    assert nms(boxes[rows], scores[rows], thresh).tolist() == expected


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    count=st.integers(1, 80),
    seed=st.integers(0, 10_000),
    thresh=st.sampled_from([0.01, 0.1, 0.5, 0.8]),
    rotated=st.booleans(),
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
    kept_of_shuffled = nms_ops.nms(boxes[rows], scores[rows], 0.2)
    kept = nms_ops.nms(boxes, scores, 0.2)
    assert [rows[number] for number in kept_of_shuffled] == kept.tolist()


def test_equal_scores_keep_the_earlier_row() -> None:
    boxes = torch.tensor([[0.0, 0, 0, 2, 2, 2, 0]]).repeat(5, 1)
    assert nms_ops.nms(boxes, torch.ones(5), 0.5).tolist() == [0]
    apart = boxes.clone()
    apart[:, 0] = torch.arange(5) * 10
    assert nms_ops.nms(apart, torch.ones(5), 0.5).tolist() == [0, 1, 2, 3, 4]


def nms_plain(boxes: Tensor, scores: Tensor, thresh: float, rotated: bool) -> Tensor:
    """The plain version, which expects falling scores."""
    assert (scores.diff() < 0).all()
    return nms_ops.greedy_nms_plain(boxes, thresh, rotated)


def nms_compiled(boxes: Tensor, scores: Tensor, thresh: float, rotated: bool) -> Tensor:
    function = nms_ops.nms if rotated else nms_ops.nms_normal
    return function(boxes, scores, thresh)


@pytest.mark.parametrize("nms", [nms_plain, nms_compiled])
def test_suppression_needs_more_than_the_threshold(nms) -> None:
    """The second box is half of the first: an IoU of exactly 0.5."""
    boxes = torch.tensor([[0.0, 0, 0, 4, 2, 1, 0], [1, 0, 0, 2, 2, 1, 0]])
    scores = torch.tensor([2.0, 1.0])
    assert nms(boxes, scores, 0.5, rotated=False).tolist() == [0, 1]
    assert nms(boxes, scores, 0.49, rotated=False).tolist() == [0]


@pytest.mark.parametrize("nms", [nms_plain, nms_compiled])
def test_a_suppressed_box_suppresses_nothing(nms) -> None:
    """Six boxes in a row, each half over the next: neighbours have an IoU of 1/3."""
    boxes = torch.tensor([[0.0, 0, 0, 4, 2, 1, 0]]).repeat(6, 1)
    boxes[:, 0] = torch.arange(0, 12, 2)
    scores = torch.arange(6, 0, -1.0)
    assert nms(boxes, scores, 0.3, rotated=True).tolist() == [0, 2, 4]


def test_sizes_before_and_after() -> None:
    boxes, scores = crowd(60, 8)
    everything = nms_ops.nms(boxes, scores, 0.9)
    assert len(everything) > 20
    first_seven = nms_ops.nms(boxes, scores, 0.9, post_maxsize=7)
    assert first_seven.tolist() == everything[:7].tolist()
    best = scores.argsort(descending=True)[:10]
    kept_of_the_best = nms_ops.nms(boxes[best], scores[best], 0.9)
    of_ten = nms_ops.nms(boxes, scores, 0.9, pre_maxsize=10)
    assert of_ten.tolist() == best[kept_of_the_best].tolist()


def test_empty_input(device: torch.device) -> None:
    boxes = torch.zeros(0, 7, device=device)
    scores = torch.zeros(0, device=device)
    assert nms_ops.nms(boxes, scores, 0.1).shape == (0,)
    assert nms_ops.nms_normal(boxes, scores, 0.1, 10, 5).shape == (0,)
    selected, kept_scores = nms_ops.class_agnostic_nms(scores, boxes, CONFIG, 0.1)
    assert selected.shape == (0,)
    assert kept_scores.shape == (0,)
    class_scores = torch.zeros(0, 3, device=device)
    kept_scores, labels, kept_boxes = nms_ops.multi_classes_nms(class_scores, boxes, CONFIG, 0.1)
    assert kept_scores.shape == (0,)
    assert labels.shape == (0,)
    assert kept_boxes.shape == (0, 7)


def test_inputs_are_unchanged() -> None:
    boxes, scores = crowd(50, 9)
    boxes_before = boxes.clone()
    scores_before = scores.clone()
    class_scores = torch.stack([scores, scores], dim=1)
    nms_ops.class_agnostic_nms(scores, boxes, CONFIG, 10.0)
    nms_ops.multi_classes_nms(class_scores, boxes, CONFIG, 10.0)
    assert torch.equal(boxes, boxes_before)
    assert torch.equal(scores, scores_before)


def test_class_agnostic_nms_takes_scores_equal_to_the_threshold() -> None:
    boxes = torch.zeros(3, 7)
    boxes[:, 0] = torch.arange(3) * 10.0
    boxes[:, 3:6] = 1.0
    scores = torch.tensor([0.2, 0.5, 0.9])
    selected, kept_scores = nms_ops.class_agnostic_nms(scores, boxes, CONFIG, score_thresh=0.5)
    assert selected.tolist() == [2, 1]
    assert torch.equal(kept_scores, scores[[2, 1]])
    without_threshold, _ = nms_ops.class_agnostic_nms(scores, boxes, CONFIG)
    assert without_threshold.tolist() == [2, 1, 0]
    above_all_scores, _ = nms_ops.class_agnostic_nms(scores, boxes, CONFIG, score_thresh=1.0)
    assert above_all_scores.tolist() == []


def test_scores_that_are_not_numbers_are_dropped_by_a_threshold() -> None:
    boxes, scores = crowd(5, 10)
    scores[2] = torch.nan
    selected, _ = nms_ops.class_agnostic_nms(scores, boxes, CONFIG, score_thresh=0.0)
    assert 2 not in selected.tolist()


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
    by_score = boxes[scores.argsort(descending=True)]
    threads = torch.get_num_threads()
    results = []
    for count in (1, 2):
        torch.set_num_threads(count)
        compiled = nms_ops.nms(boxes, scores, 0.1)
        plain = nms_ops.greedy_nms_plain(by_score, 0.1, rotated=True)
        results.append((compiled, plain))
    torch.set_num_threads(threads)
    for by_one_thread, by_two_threads in zip(*results):
        assert torch.equal(by_one_thread, by_two_threads)
