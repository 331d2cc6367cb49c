"""Readers of box labels; one file a format, and ``formats.py`` with the table of them."""

from __future__ import annotations

from .base import FrameLabels, LabelRow, LabelSet
from .files import LabelFile, LabelOptions
from .formats import FORMATS, LabelFormat, read_labels

__all__ = [
    "FORMATS",
    "FrameLabels",
    "LabelFile",
    "LabelFormat",
    "LabelOptions",
    "LabelRow",
    "LabelSet",
    "read_labels",
]
