"""Average precision in LiDAR coordinates: any classes, no camera.

``lidar_eval(gt_annos, det_annos, class_names, options)`` returns a ``LidarResult``.
"""

from ...config import LidarEvalOptions
from .evaluate import lidar_eval
from .result import LidarResult

__all__ = ["LidarEvalOptions", "LidarResult", "lidar_eval"]
