"""KITTI's object benchmark on the CPU: 2D, BEV and 3D average precision, orientation similarity.

``kitti_eval(gt_annos, det_annos, classes)`` returns a ``KittiResult``; its ``text`` is OpenPCDet's.

    average_precision  the whole way
    frames             annotations of all frames as flat arrays, and who counts at which difficulty
    overlaps           of detections and objects, in the image, in BEV and in 3D
    matching           KITTI's matching, and the counts at each score threshold
    protocol           the benchmark's constants
    result             curves, APs and texts; ``remarks`` warns beside them
"""

from .average_precision import kitti_eval
from .result import KittiResult

__all__ = ["KittiResult", "kitti_eval"]
