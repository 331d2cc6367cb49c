"""``pcdet-distill data custom``: a folder of clouds and labels becomes a data set to train on.

convert         the way from the folder to the data set; the steps are in the other files
arguments       the flags
clouds          the points of all clouds, with the same columns
recording       the clouds of a ROS bag
classes         class names, joined and checked
survey          what the data hold; ``text`` tells it to people, ``picture`` draws some frames
split           which frames are for training, which for validation
settings        range, pillars and anchors that fit the data
yaml_files      the yaml files of a teacher and a student, from ``yaml_templates``
"""

from __future__ import annotations

from .arguments import (
    add_class_arguments,
    add_custom_arguments,
    add_custom_infos_arguments,
    add_out_argument,
)
from .convert import folder_of_parts, make_infos, making_part, run_conversion

__all__ = [
    "add_class_arguments",
    "add_custom_arguments",
    "add_custom_infos_arguments",
    "add_out_argument",
    "folder_of_parts",
    "make_infos",
    "making_part",
    "run_conversion",
]
