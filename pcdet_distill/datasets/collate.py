"""Items to a batch: what is joined, what is padded, what stays a list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .view import ViewItem

JOINED = ("voxels", "voxel_num_points")
JOINED_WITH_BATCH_INDEX = ("points", "voxel_coords")


def collate_items(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The batch_dict of items.

    Points and voxels of all items follow one another, ``points`` (N, 1 + C) and ``voxel_coords`` (M, 4) with the item's
    number in front; ``gt_boxes`` (B, G, 8) is padded by zero rows to the longest, at least one; other arrays, numbers
    and strings are stacked; a view of the points becomes a batch within the batch; ``calib`` and what has no common
    shape stays a list.
    """
    batch: dict[str, Any] = {}
    for key in items[0]:
        values = [item[key] for item in items]
        try:
            batch[key] = _collate_one(key, values)
        except ValueError as error:
            raise ValueError(f"items cannot be joined to a batch at '{key}': {error}") from error
    batch["batch_size"] = len(items)
    return batch


def _collate_one(key: str, values: list[Any]) -> Any:
    if key in JOINED:
        return np.concatenate(values)
    if key in JOINED_WITH_BATCH_INDEX:
        return np.concatenate(
            [_with_batch_index(value, number) for number, value in enumerate(values)]
        )
    if isinstance(values[0], ViewItem):
        return collate_items(values)
    if key == "gt_boxes":
        return _padded_boxes(values)
    if isinstance(values[0], (np.ndarray, np.generic, int, float, str)):
        return np.stack([np.asarray(value) for value in values])
    return values


def _with_batch_index(rows: np.ndarray, number: int) -> np.ndarray:
    """(N, C) to (N, 1 + C), ``number`` in front."""
    return np.concatenate([np.full((len(rows), 1), number, dtype=rows.dtype), rows], axis=1)


def _padded_boxes(boxes: list[np.ndarray]) -> np.ndarray:
    """(B, G, 8) float32: zero rows up to the longest item, never without any row."""
    longest = max(1, max(len(item_boxes) for item_boxes in boxes))
    padded = np.zeros((len(boxes), longest, boxes[0].shape[-1]), dtype=np.float32)
    for row, item_boxes in zip(padded, boxes):
        row[: len(item_boxes)] = item_boxes
    return padded
