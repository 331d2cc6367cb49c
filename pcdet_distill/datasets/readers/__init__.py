"""Read the point clouds of other people: one table of file suffixes to readers.

``read_cloud_file`` reads a file of one cloud, ``read_bag`` the clouds of a recording. Each returns
``PointCloud``: float32 points with named columns, and a note on what a user should know.

    >>> cloud = read_cloud_file(Path("scan.pcd"))                          # doctest: +SKIP
    >>> cloud.features, len(cloud.points), cloud.note                      # doctest: +SKIP
    (('x', 'y', 'z', 'intensity', 'ring'), 66781, 'intensity looks like a scale of 0..255 ...')

What all readers share, the readers, and what they are made of:

    table                 which reader reads which file
    sources, folders      the clouds behind a path: a file, a folder, a recording
    cloud                 ``PointCloud``, what every reader returns
    model_points          a cloud as a trained model expects it

    pcd (with lzf), ply, las, feather, arrays, number_file          files of one cloud
    bags, mcap_file, with point_cloud2 and livox                    recordings

    content               which format the bytes of a file have
    columns, names        columns by their names; ``default_names`` and ``column_count`` without any
    text_rows, times      numbers of text, times in seconds
    extras                packages that some formats need
"""

from __future__ import annotations

from .bags import BAG_SUFFIXES, bag_topics, is_bag, read_bag
from .cloud import PointCloud
from .folders import find_clouds
from .model_points import ModelInput
from .sources import CloudSource, open_clouds
from .table import CLOUD_SUFFIXES, UNNAMED_SUFFIXES, read_cloud_file

__all__ = [
    "BAG_SUFFIXES",
    "CLOUD_SUFFIXES",
    "CloudSource",
    "ModelInput",
    "PointCloud",
    "UNNAMED_SUFFIXES",
    "bag_topics",
    "find_clouds",
    "is_bag",
    "open_clouds",
    "read_bag",
    "read_cloud_file",
]
