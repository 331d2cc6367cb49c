"""nuScenes' detection benchmark: mAP, five errors and NDS, and the result file of its server.

protocol      classes, ranges, distances of the configuration detection_cvpr_2019
submission    detections in LiDAR coordinates as results_nusc.json
tables        the official tables, read and checked
truth         labelled boxes, bicycle racks and poses from them
boxes         labelled or detected boxes in global coordinates; ``quaternions`` their rotations
filters       which boxes count
matching      detections and labelled boxes become pairs with errors
metrics       pairs become curves over recall, AP and mean errors
score         all of these in one call; ``evaluate`` from detections to the result
result        mAP, NDS and OpenPCDet's text
devkit        the same numbers by nuscenes-devkit, where it is installed

``nuscenes_eval(infos, det_annos, root, version)`` does all of it.
"""

from .evaluate import nuscenes_eval, score_truth
from .protocol import CATEGORY_CLASS, DETECTION_NAMES, MAX_BOXES_PER_SAMPLE
from .result import NuScenesResult
from .submission import as_submission, detected_boxes, submission, write_submission
from .tables import Tables
from .truth import Poses, Truth, read_poses, read_truth

__all__ = [
    "CATEGORY_CLASS",
    "DETECTION_NAMES",
    "MAX_BOXES_PER_SAMPLE",
    "NuScenesResult",
    "Poses",
    "Tables",
    "Truth",
    "as_submission",
    "detected_boxes",
    "nuscenes_eval",
    "read_poses",
    "read_truth",
    "score_truth",
    "submission",
    "write_submission",
]
