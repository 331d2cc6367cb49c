"""Checks of recorded targets of centre heads."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from on_cpu import on_cpu
from torch import Tensor

from pcdet_distill.models.dense_heads.center_head import CenterHead


def check_center_targets(
    arrays: Mapping[str, np.ndarray], head: CenterHead, gt_boxes: Tensor
) -> None:
    """Peaks, rows, cells and codes of every head, and that the labels of the batch stay."""
    targets = on_cpu(head.forward_ret_dict["target_dicts"])
    assert f"full/train/inds_{len(targets)}" not in arrays
    for number, target in enumerate(targets):
        np.testing.assert_array_equal(
            torch.nonzero(target.heatmap == 1), arrays[f"full/train/heatmap_ones_{number}"]
        )
        np.testing.assert_array_equal(
            torch.nonzero(target.mask), arrays[f"full/train/mask_index_{number}"]
        )
        np.testing.assert_array_equal(
            target.cells[target.mask], arrays[f"full/train/inds_{number}"]
        )
        np.testing.assert_allclose(
            target.boxes[target.mask],
            arrays[f"full/train/target_boxes_{number}"],
            rtol=1e-5,
            atol=1e-5,
        )
    check_labels(arrays, head, gt_boxes)


def check_labels(arrays: Mapping[str, np.ndarray], head: CenterHead, gt_boxes: Tensor) -> None:
    """OpenPCDet overwrites labels of ``gt_boxes`` by numbers inside a group. Ours stay.

    Whatever reads the batch later, such as a distillation loss, needs the labels.
    """
    before = arrays["full/train/gt_boxes"]
    np.testing.assert_array_equal(gt_boxes, before)
    number_in_group = {0: 0}
    for labels in head.head_labels:
        for number, label in enumerate(labels, start=1):
            number_in_group[label] = number
    expected = before.copy()
    expected[..., -1] = [[number_in_group[int(label)] for label in row] for row in before[..., -1]]
    np.testing.assert_array_equal(expected, arrays["full/train/gt_boxes_after_forward"])
