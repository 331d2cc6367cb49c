"""``pcdet-distill data custom``: a folder of clouds and labels becomes a data set to train on."""

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
