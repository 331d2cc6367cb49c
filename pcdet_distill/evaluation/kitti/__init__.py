"""KITTI's object benchmark on the CPU: 2D, BEV and 3D average precision, orientation similarity.

``kitti_eval(gt_annos, det_annos, classes)`` returns a ``KittiResult``; its ``text`` is OpenPCDet's.
"""

from .average_precision import kitti_eval
from .result import KittiResult

__all__ = ["KittiResult", "kitti_eval"]
