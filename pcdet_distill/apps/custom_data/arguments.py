"""The flags of ``data custom`` and ``data custom_infos``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ...config.override import add_set_argument
from ...datasets.custom.labels import FORMATS
from .split import WAYS


def add_custom_arguments(parser: argparse.ArgumentParser) -> None:
    """Where clouds and labels are, what they mean, and how they are split."""
    parser.add_argument("folder", type=Path, help="folder of the point clouds, or a ROS bag")
    add_out_argument(parser)
    _add_labels(parser)
    add_class_arguments(parser)
    _add_conventions(parser)
    _add_clouds(parser)
    _add_result(parser)


def add_out_argument(parser: argparse.ArgumentParser) -> None:
    """Where the data set is written."""
    parser.add_argument(
        "--out", type=Path, required=True, help="folder to write; it must not exist yet"
    )


def add_class_arguments(parser: argparse.ArgumentParser) -> None:
    """Which classes are trained, and what they are called."""
    parser.add_argument(
        "--classes",
        nargs="+",
        default=[],
        metavar="NAME",
        help="classes to train (default: all that are labelled)",
    )
    parser.add_argument(
        "--rename",
        nargs="+",
        default=[],
        metavar="OLD=NEW",
        help="call a class otherwise, or join several: --rename van=car truck=car",
    )


def _add_labels(parser: argparse.ArgumentParser) -> None:
    """Where the labels are and how they are read."""
    formats = "; ".join(f"{name}: {entry.help}" for name, entry in FORMATS.items())
    parser.add_argument(
        "--labels",
        type=Path,
        help="file or folder of the boxes (default: looked for in the folder and beside it)",
    )
    parser.add_argument(
        "--format",
        default="",
        metavar="NAME",
        help=f"format of the labels (default: recognised by the first file). {formats}",
    )
    parser.add_argument(
        "--label_columns",
        nargs="+",
        default=[],
        metavar="NAME",
        help="columns of a table without header line, e.g. frame class x y z length width height "
        "yaw; '-' for one to leave out",
    )


def _add_conventions(parser: argparse.ArgumentParser) -> None:
    """What the numbers of the labels mean, and what is left out."""
    parser.add_argument(
        "--angles",
        choices=["radians", "degrees"],
        default="",
        help="unit of the headings (default: radians, where the file does not say degrees)",
    )
    parser.add_argument(
        "--box_z",
        choices=["centre", "bottom"],
        default="",
        help="what z of a box is (default: the format's own rule, usually the centre)",
    )
    parser.add_argument(
        "--calib",
        default="",
        help="KITTI labels: calibration file or folder, or 'default' for a camera at the LiDAR "
        "that looks along its x axis (default: calib/ beside the labels)",
    )
    parser.add_argument(
        "--lidar_frame",
        action="store_true",
        help="KITTI labels: locations and angles are in LiDAR coordinates already",
    )
    parser.add_argument(
        "--ignore_ids",
        action="store_true",
        help="an id may come twice in a frame, because ids are no names of objects",
    )
    parser.add_argument(
        "--skip_missing", action="store_true", help="leave out labels whose cloud is missing"
    )
    parser.add_argument(
        "--unlabelled_is_empty",
        action="store_true",
        help="clouds without labels are frames without objects (default: they become the split "
        "'unlabelled')",
    )


def _add_clouds(parser: argparse.ArgumentParser) -> None:
    """How the clouds are read."""
    parser.add_argument(
        "--columns",
        nargs="+",
        default=[],
        metavar="NAME",
        help="columns of .bin, .npy and .npz files in their order, e.g. x y z intensity ring or "
        "x,y,z,intensity,ring (default: guessed and shown)",
    )
    parser.add_argument(
        "--features",
        nargs="+",
        default=[],
        metavar="NAME",
        help="columns to store and to show to the model, e.g. x y z intensity ring (default: all "
        "are stored; x y z, intensity and elongation are shown to the model)",
    )
    parser.add_argument(
        "--intensity_scale",
        type=float,
        default=1.0,
        help="divide the intensities by this, e.g. 255 (default: 1, stored as recorded)",
    )
    parser.add_argument("--topic", default=None, help="topic of the clouds in a ROS bag")


def _add_result(parser: argparse.ArgumentParser) -> None:
    """How the frames are split and written."""
    parser.add_argument(
        "--split",
        type=float,
        default=0.8,
        metavar="SHARE",
        help="share of the frames to train on (default: 0.8)",
    )
    parser.add_argument(
        "--split_by",
        choices=WAYS,
        default="auto",
        help="what stays together: whole recordings, blocks of consecutive frames, or nothing; "
        "auto: recordings where names tell them apart, else blocks (default: auto)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the split (default: 0)")
    parser.add_argument(
        "--name", default="", help="name of the yaml files (default: the name of --out)"
    )


def names_of(texts: Sequence[str]) -> tuple[str, ...]:
    """Names that are separated by spaces, by commas, or by both."""
    joined = ",".join(texts)
    return tuple(name.strip() for name in joined.split(",") if name.strip())


def add_custom_infos_arguments(parser: argparse.ArgumentParser) -> None:
    """Which folder in OpenPCDet's layout gets info files."""
    parser.add_argument(
        "cfg", help="yaml of the dataset or of an experiment; its DATA_PATH is the folder"
    )
    add_set_argument(parser)
