"""``pcdet-distill data custom``: a folder of clouds and labels becomes a data set to train on."""

from __future__ import annotations

from .arguments import add_custom_arguments, add_custom_infos_arguments
from .convert import make_infos, run_conversion

__all__ = [
    "add_custom_arguments",
    "add_custom_infos_arguments",
    "make_infos",
    "run_conversion",
]
