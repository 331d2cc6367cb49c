"""One frame of a case as the batch that a model reads."""

from __future__ import annotations

import numpy as np

from ...config import CloudOptions
from ...datasets import PointView
from ...datasets.collate import collate_items
from ...models import load_data_to_device
from ...ops.boxes import mask_boxes_outside_range
from ...types import BatchDict
from .case import Case
from .frames import Frame

INTENSITY = "intensity"


def batch_of(case: Case, frame: Frame, *, intensity_factor: float = 1.0) -> BatchDict:
    """The batch of one frame, processed as for a test.

    Args:
        intensity_factor: what intensities are multiplied by, to try another scale.
    """
    assert frame.points is not None
    features = case.spec.point_feature_encoder.src_feature_list
    points = frame.points.copy()
    if intensity_factor != 1.0 and INTENSITY in features:
        points[:, features.index(INTENSITY)] *= intensity_factor
    view = PointView(case.data, features, False, CloudOptions.from_config(case.data))
    item = view.make(points, np.random.RandomState(0))
    batch = collate_items([{**item, "frame_id": frame.name, "gt_boxes": labels_of(case, frame)}])
    load_data_to_device(batch, "cpu")
    return batch


def labels_of(case: Case, frame: Frame) -> np.ndarray:
    """(M, width + 1) boxes of the trained classes in the range, with their labels."""
    assert frame.objects is not None
    width = frame.objects.boxes.shape[1]
    rows = []
    for labelled in frame.objects.objects:
        if labelled.name in case.class_names and (labelled.box[3:6] > 0).all():
            rows.append([*labelled.box, case.class_names.index(labelled.name) + 1])
    boxes = np.array(rows, dtype=np.float32).reshape(-1, width + 1)
    return boxes[mask_boxes_outside_range(boxes, case.data["POINT_CLOUD_RANGE"])]
