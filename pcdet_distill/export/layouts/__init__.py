"""Layouts: a detector as the files that other projects' programs read.

autoware            Autoware's lidar_centerpoint node: two networks, parameters
cuda_pointpillars   NVIDIA's CUDA-PointPillars: one network, parameters
pillars             the pillar encoder for programs that decorate the points themselves
files, check        what is written, and the check of it
decoration, autoware_node, cuda_program    what these programs compute around the networks, in
                    numpy: the check of an export, without their GPU
"""

from __future__ import annotations

from .check import check_layout
from .files import LAYOUTS, LayoutFiles, write_layout

__all__ = ["LAYOUTS", "LayoutFiles", "check_layout", "write_layout"]
