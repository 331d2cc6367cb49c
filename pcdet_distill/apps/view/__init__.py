"""``pcdet-distill view``: point clouds and boxes as one HTML file.

sources      what the path is, and which frames it has; ``choice`` those that are shown
clouds       folders of clouds, single files and recordings, with labels beside them
data_sets    KITTI's layout, nuScenes, and the data set of a yaml
found        boxes of detectors and of result files
frames       a frame as it is shown: thinned, without bad points, with its boxes
loaded       what every source gives
command      the flags
"""

from __future__ import annotations

from .command import add_view_arguments, run_view

__all__ = ["add_view_arguments", "run_view"]
