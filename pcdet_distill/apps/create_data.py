"""Prepare data: simulate frames, convert own data, write info files and object databases.

pcdet-distill data synthetic --out DIR --frames 500 --seed 0
pcdet-distill data synthetic --format nuscenes --out DIR --frames 80
pcdet-distill data kitti cfgs/dataset_configs/kitti_dataset.yaml
pcdet-distill data nuscenes cfgs/dataset_configs/nuscenes_dataset.yaml --version v1.0-mini
pcdet-distill data argoverse2 cfgs/dataset_configs/argoverse2_dataset.yaml
pcdet-distill data tri3d once DIR --out OUT
pcdet-distill data custom DIR --out OUT
pcdet-distill data custom_infos cfgs/dataset_configs/custom_dataset.yaml
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable

from ..config import CloudOptions, load_config, required, resolve_data_path
from ..config.override import add_set_argument
from ..datasets.kitti.kitti_infos import create_kitti_infos
from ..datasets.kitti.road_planes import create_road_planes
from ..datasets.kitti.splits import make_split
from ..datasets.parts import Merge, Part, PartIsReady
from ..errors import ConfigError
from ..parallel import add_engine_arguments, engine_of
from ..parallel.arguments import OPTION_OF_FLAG
from ..parallel.shards import add_shard_argument
from .argoverse2_data import add_argoverse2_arguments, prepare_argoverse2
from .custom_data import (
    add_custom_arguments,
    add_custom_infos_arguments,
    make_infos,
    run_conversion,
)
from .nuscenes_data import add_nuscenes, prepare_nuscenes
from .synthetic_data import add_synthetic_arguments, simulate
from .tri3d_data import add_tri3d_arguments, prepare_tri3d

# Flags that may differ between the parts of one preparation.
NOT_OF_REQUEST = {"workers", "engine", "shard", "merge_shards", *OPTION_OF_FLAG}


def add_data_arguments(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add a subcommand for each way to make data, with its flags."""
    commands = parser.add_subparsers(dest="command", required=True)
    synthetic = commands.add_parser("synthetic", help="simulate a KITTI folder or nuScenes' tables")
    kitti = commands.add_parser(
        "kitti", help="write the info files and the object database of a KITTI folder"
    )
    nuscenes = commands.add_parser(
        "nuscenes", help="write the info files and the object database of nuScenes"
    )
    custom = commands.add_parser(
        "custom", help="convert own clouds and labels, and write a yaml to train with"
    )
    custom_infos = commands.add_parser(
        "custom_infos",
        help="write the info files and the object database of own data in OpenPCDet's layout",
    )
    argoverse2 = commands.add_parser(
        "argoverse2",
        help="write the info files and the object database of Argoverse 2's sensor data",
    )
    tri3d = commands.add_parser("tri3d", help="convert ONCE or Waymo 2, read by the package tri3d")
    add_synthetic_arguments(synthetic)
    _add_kitti(kitti)
    add_nuscenes(nuscenes)
    add_argoverse2_arguments(argoverse2)
    add_tri3d_arguments(tri3d)
    add_custom_arguments(custom)
    add_custom_infos_arguments(custom_infos)
    for command in (synthetic, kitti, nuscenes, custom, custom_infos, argoverse2, tri3d):
        command.add_argument(
            "--workers",
            type=int,
            default=os.cpu_count() or 1,
            help="processes (default: one for each CPU core)",
        )
        add_engine_arguments(command)
        _add_parts(command)
    return parser


def _add_parts(command: argparse.ArgumentParser) -> None:
    """Let several commands share the work."""
    add_shard_argument(command, "frames, scenes or sequences")
    command.add_argument(
        "--merge_shards",
        action="store_true",
        help="put the shards together, when all are done and none is there twice",
    )


def _add_kitti(kitti: argparse.ArgumentParser) -> None:
    """Which KITTI folder is prepared, and how."""
    kitti.add_argument(
        "cfg", help="yaml of the dataset or of an experiment; its DATA_PATH is the folder"
    )
    kitti.add_argument(
        "--make_split",
        type=float,
        metavar="FRACTION",
        help="first write ImageSets/*.txt: a random split with this share for training; existing "
        "files are never overwritten",
    )
    kitti.add_argument(
        "--make_planes",
        action="store_true",
        help="first estimate the road planes from the points, into training/planes: for "
        "USE_ROAD_PLANE without KITTI's planes",
    )
    add_set_argument(kitti)


def prepare_kitti(args: argparse.Namespace) -> None:
    """Make what training on a KITTI folder needs, and say what was made."""
    config = load_config(args.cfg, args.set_cfgs)
    data_config = config.get("DATA_CONFIG", config)
    root = resolve_data_path(required(data_config, "DATA_PATH", args.cfg), config.ROOT_DIR)
    if isinstance(args.workers, (Part, Merge)) and (
        args.make_split is not None or args.make_planes
    ):
        raise ConfigError(
            "--make_split and --make_planes: are for one process; run them first, without --shard"
        )
    if args.make_split is not None:
        print(f"split drawn: {_listed(make_split(root, args.make_split))} frames")
    if args.make_planes:
        print(f"road planes estimated: {create_road_planes(root, args.workers)} frames")
    cloud = CloudOptions.from_config(data_config)
    counts = create_kitti_infos(root, args.workers, cloud=cloud)
    objects = counts.pop("gt_database")
    print(f"{root}: infos of {_listed(counts)} frames, {objects} objects in gt_database")


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


PREPARE: dict[str, Callable[[argparse.Namespace], None]] = {
    "synthetic": simulate,
    "argoverse2": prepare_argoverse2,
    "tri3d": prepare_tri3d,
    "kitti": prepare_kitti,
    "nuscenes": prepare_nuscenes,
    "custom": run_conversion,
    "custom_infos": make_infos,
}


def run_data(args: argparse.Namespace) -> None:
    """Make the data that the command line asks for."""
    shard = getattr(args, "shard", None)
    is_merge = getattr(args, "merge_shards", False)
    if is_merge and shard is not None:
        raise ConfigError("--merge_shards: comes after all of --shard, not with one")
    request = _request(args)
    args.workers = engine_of(args, args.workers)
    if is_merge:
        args.workers = Merge(request, args.workers)
    elif shard is not None:
        args.workers = Part(args.workers, shard, request)
    try:
        PREPARE[args.command](args)
    except PartIsReady as ready:
        print(ready)


def _request(args: argparse.Namespace) -> str:
    """What all parts of a preparation must have in common: the command and its options."""
    options = {name: str(value) for name, value in vars(args).items() if name not in NOT_OF_REQUEST}
    return json.dumps(options, sort_keys=True)
