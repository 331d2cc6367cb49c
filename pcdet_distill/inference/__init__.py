"""From a yaml and a checkpoint to boxes: load a detector, call it with points.

    >>> detector = load_detector("kitti_distill/pointpillar_4x.yaml", "student.pth")
    >>> found = detector("scan.pcd")
    >>> found.boxes, found.scores, found.names

What these lines run through:

    load           yaml, checkpoint and folder to a ``Detector``; ``hub`` finds the folder on a hub
    matching_yaml  which yaml a checkpoint belongs to, where it does not fit
    detector       the ``Detector``: points in, ``Detections`` out
    detections     the boxes of one cloud, and the formats they are written in
    clouds         what may be given as points, as clouds that are read one by one
    checks         whether a cloud is like those of the training
    processing     a cloud to the item and the batch that a network reads
    predict        a batch through a network; evaluation and export use it too
    settings       score threshold, NMS and classes, changed for one call or for all
"""

from __future__ import annotations

from .detections import Detections
from .detector import Detector
from .load import load_detector, load_model
from .predict import predict_batch
from .processing import CloudProcessing, InputWarning
from .settings import BoxSettings

__all__ = [
    "BoxSettings",
    "CloudProcessing",
    "Detections",
    "Detector",
    "InputWarning",
    "load_detector",
    "load_model",
    "predict_batch",
]
