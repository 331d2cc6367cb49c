"""Readers of box labels, one file a format.

``read_labels`` in ``formats.py``, where the table of them is, recognises a format by its files.

    files           the label files; ``base`` what a reader returns, ``checks`` what must be true
    table           a header line, then one box a line; ``fields`` knows the names of columns
    json_files      JSON of the usual shapes; ``json_parts`` checks its parts
    datumaro, sly, tracklets            what CVAT exports
    kitti_text, openpcdet_text          text files
"""

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
