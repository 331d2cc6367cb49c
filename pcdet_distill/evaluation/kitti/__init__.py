"""KITTI's object benchmark: 2D, BEV and 3D average precision and orientation similarity, on the CPU.

``kitti_eval(gt_annos, det_annos, classes)`` returns a ``KittiResult``; ``str()`` of it is OpenPCDet's text.
"""

from .average_precision import kitti_eval
from .result import KittiResult

__all__ = ["KittiResult", "kitti_eval"]
