"""Whether an entry of an info file is what the dataset reads later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

KEYS = ("lidar_path", "token", "sweeps")
SWEEP_KEYS = ("lidar_path", "transform_matrix", "time_lag")
LABEL_KEYS = ("gt_boxes", "gt_names", "num_lidar_pts")
BOX_WIDTH = 9


def check_info(info: object, num_sweeps: int) -> str:
    """What is wrong with an info, as half a sentence; empty if nothing is.

    Args:
        info: an entry of an info file.
        num_sweeps: sweeps before the key frame that are needed.
    """
    if not isinstance(info, Mapping):
        return f"but a {type(info).__name__}"
    for key in KEYS:
        if key not in info:
            return f"it lacks '{key}'"
    return _check_sweeps(info["sweeps"], num_sweeps) or _check_labels(info)


def _check_sweeps(sweeps: object, needed: int) -> str:
    if not isinstance(sweeps, Sequence):
        return "its 'sweeps' are no list"
    if len(sweeps) < needed:
        return f"it holds {len(sweeps)} sweeps before the key frame, but MAX_SWEEPS needs {needed}"
    for sweep in sweeps:
        for key in SWEEP_KEYS:
            if not isinstance(sweep, Mapping) or key not in sweep:
                return f"a sweep of it lacks '{key}'"
        matrix = sweep["transform_matrix"]
        if matrix is not None and np.shape(matrix) != (4, 4):
            return f"the transform_matrix of a sweep has the shape {np.shape(matrix)}, not (4, 4)"
    return ""


def _check_labels(info: Mapping) -> str:
    if "gt_boxes" not in info:  # a version without annotations
        return ""
    for key in LABEL_KEYS:
        if key not in info:
            return f"it lacks '{key}'"
    boxes = np.shape(info["gt_boxes"])
    if boxes[0] and boxes[1:] != (BOX_WIDTH,):
        return f"its gt_boxes have the shape {boxes}, not (N, {BOX_WIDTH}) with velocities"
    lengths = {len(info[key]) for key in LABEL_KEYS}
    if len(lengths) > 1:
        return f"its labels have different lengths: {sorted(lengths)}"
    return ""
