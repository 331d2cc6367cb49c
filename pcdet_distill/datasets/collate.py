"""Items to a batch: what is joined, what is padded, what stays a list."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import DataError
from ..types import BatchDict
from .item import Item
from .predicted.scene import PredictedItem, collate_predicted
from .view import ViewItem

JOINED = ("voxels", "voxel_num_points")
JOINED_WITH_BATCH_INDEX = ("points", "voxel_coords")


def collate_items(items: Sequence[Item]) -> BatchDict:
    """The batch_dict of items.

    * ``points`` (N, 1 + C) and ``voxel_coords`` (V, 4) of all items follow one another, with the
      number of the item as first column. So do ``voxels`` and ``voxel_num_points``, without it.
    * ``gt_boxes`` (B, G, 8) is padded with rows of zeros to the longest item, at least one.
    * A view of the points becomes a batch within the batch, and so do a teacher's predictions.
    * Other arrays, numbers and strings are stacked. Objects such as ``calib`` stay a list.
    """
    batch: BatchDict = {}
    for key in items[0]:
        for item in items:
            if key not in item:
                raise DataError(
                    f"frame {item.get('frame_id')}: has no {key}, and frame "
                    f"{items[0].get('frame_id')} has; expected labels in all frames or in none"
                )
        values = [item[key] for item in items]
        try:
            batch[key] = _collate_one(key, values)
        except ValueError as error:
            raise ValueError(f"items cannot be joined to a batch at '{key}': {error}") from error
    batch["batch_size"] = len(items)
    return batch


def _collate_one(key: str, values: list) -> object:
    """The values of one key of all items as the entry of the batch."""
    if key in JOINED:
        return np.concatenate(values)
    if key in JOINED_WITH_BATCH_INDEX:
        return _with_batch_index(values)
    if isinstance(values[0], ViewItem):
        return collate_items(values)
    if isinstance(values[0], PredictedItem):
        return collate_predicted(values)
    if key == "gt_boxes":
        return _padded_boxes(values)
    if isinstance(values[0], (np.ndarray, np.generic, int, float, str)):
        return np.stack([np.asarray(value) for value in values])
    return values


def _with_batch_index(values: list[np.ndarray]) -> np.ndarray:
    """Rows (N, C) of each item as (sum of N, 1 + C), with the number of the item in front."""
    counts = [len(rows) for rows in values]
    if len({rows.shape[1] for rows in values}) > 1:
        raise ValueError(f"rows of shapes {[rows.shape for rows in values]}")
    joined = np.empty((sum(counts), 1 + values[0].shape[1]), np.result_type(*values))
    joined[:, 0] = np.repeat(np.arange(len(values)), counts)
    np.concatenate(values, out=joined[:, 1:])
    return joined


def _padded_boxes(boxes: list[np.ndarray]) -> np.ndarray:
    """(B, G, width) float32: rows of zeros up to the longest item, and at least one row."""
    longest = max(1, max(len(item_boxes) for item_boxes in boxes))
    padded = np.zeros((len(boxes), longest, boxes[0].shape[-1]), dtype=np.float32)
    for row, item_boxes in zip(padded, boxes):
        row[: len(item_boxes)] = item_boxes
    return padded
