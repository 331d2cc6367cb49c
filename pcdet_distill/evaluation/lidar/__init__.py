"""Average precision in LiDAR coordinates: any classes, no camera.

``lidar_eval(gt_annos, det_annos, class_names, options)`` returns a ``LidarResult``.

    evaluate      the whole way
    frames        labels and detections of all frames as flat arrays
    overlaps      IoU and distances of detections and objects; ``matching`` makes pairs
    curves        pairs become average precision
    match_errors  how far matched detections are off; ``diagnosis`` why others do not match
    frame_errors  what was found, missed and invented in each frame
    result        the figures; ``text`` writes them, ``remarks`` warns beside them
"""

from ...config import LidarEvalOptions
from .evaluate import lidar_eval
from .result import LidarResult

__all__ = ["LidarEvalOptions", "LidarResult", "lidar_eval"]
