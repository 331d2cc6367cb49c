"""Simulate data: a KITTI folder, or the official tables of nuScenes."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..datasets.kitti.folder import split_file
from ..datasets.synthetic import (
    create_synthetic_kitti,
    create_synthetic_nuscenes,
    read_scenes,
)
from ..datasets.synthetic.nuscenes.writer import (
    DEFAULT_SCENE_FRAMES,
    DEFAULT_VERSION,
    NUSCENES_SENSOR,
    VERSIONS,
)
from ..datasets.synthetic.sensors.sensor_options import STANDARD
from ..errors import ConfigError


def add_synthetic_arguments(synthetic: argparse.ArgumentParser) -> None:
    """Add the flags of ``pcdet-distill data synthetic``."""
    _add_frames(synthetic)
    _add_simulation(synthetic)
    _add_nuscenes_format(synthetic)


def _add_frames(synthetic: argparse.ArgumentParser) -> None:
    """Where simulated frames go, how many there are, and in which split."""
    synthetic.add_argument("--out", required=True, help="folder to write")
    synthetic.add_argument(
        "--frames", type=int, required=True, help="number of frames to train and validate on"
    )
    synthetic.add_argument(
        "--seed", type=int, default=0, help="frame k depends on the seed and on k (default: 0)"
    )
    synthetic.add_argument(
        "--val_frames",
        type=int,
        default=None,
        help="how many of --frames, the last ones, are for validation (default: a fifth)",
    )
    synthetic.add_argument(
        "--holdout_frames",
        type=int,
        default=0,
        help="additional frames in a labelled split 'holdout', for the final evaluation "
        "(default: 0)",
    )
    synthetic.add_argument(
        "--unlabelled_frames",
        type=int,
        default=0,
        help="additional frames in a split 'unlabelled' (default: 0)",
    )


def _add_simulation(synthetic: argparse.ArgumentParser) -> None:
    """What is simulated: scenes, sensors and sweeps."""
    synthetic.add_argument(
        "--scenes",
        default="easy",
        metavar="NAME",
        help="easy, hard, or a yaml file like cfgs/synthetic/scenes/hard.yaml (default: easy)",
    )
    synthetic.add_argument(
        "--sensor",
        nargs="+",
        default=None,
        metavar="NAME",
        help="sensors, by the names of cfgs/synthetic/sensors or as yaml files; the first writes "
        "training/velodyne, each other one the same scenes to training/velodyne_NAME (default: "
        f"{STANDARD}, and {NUSCENES_SENSOR} for nuscenes)",
    )
    synthetic.add_argument(
        "--sweeps",
        type=int,
        default=None,
        help="sweeps of each frame, with the car and the traffic in motion; the earlier ones go "
        "to training/velodyne_sweeps (default: 1, and for nuscenes all since the key frame before)",
    )


def _add_nuscenes_format(synthetic: argparse.ArgumentParser) -> None:
    """The official tables of nuScenes instead of a KITTI folder."""
    synthetic.add_argument(
        "--format",
        choices=("kitti", "nuscenes"),
        default="kitti",
        help="nuscenes: scenes of key frames and sweeps all around the car, as the official tables "
        "(default: kitti)",
    )
    synthetic.add_argument(
        "--scene_frames",
        type=int,
        default=None,
        help=f"key frames of a scene of nuscenes, two a second (default: {DEFAULT_SCENE_FRAMES})",
    )
    synthetic.add_argument(
        "--version",
        default=None,
        help=f"{VERSIONS[0]} has 8 scenes for training and 2 for validation, {VERSIONS[1]} 700 and "
        f"150 (default: {DEFAULT_VERSION})",
    )


def simulate(args: argparse.Namespace) -> None:
    """Simulate what the command line asks for."""
    if args.format == "nuscenes":
        simulate_nuscenes(args)
    else:
        simulate_kitti(args)


def simulate_nuscenes(args: argparse.Namespace) -> None:
    """Simulate scenes as nuScenes' tables."""
    _refuse(
        "nuscenes",
        {
            "--scenes": args.scenes != "easy",
            "--holdout_frames": bool(args.holdout_frames),
            "--unlabelled_frames": bool(args.unlabelled_frames),
            "several of --sensor": args.sensor is not None and len(args.sensor) > 1,
        },
    )
    version = args.version or DEFAULT_VERSION
    root = create_synthetic_nuscenes(
        args.out,
        args.frames,
        args.seed,
        val_frames=args.val_frames,
        scene_frames=DEFAULT_SCENE_FRAMES if args.scene_frames is None else args.scene_frames,
        sweeps=args.sweeps,
        version=version,
        sensor=args.sensor[0] if args.sensor else NUSCENES_SENSOR,
        workers=args.workers,
    )
    if (root / version / version / "sample.json").is_file():
        print(f"{root}: simulated; 'pcdet-distill data nuscenes YAML' makes the info files")


def simulate_kitti(args: argparse.Namespace) -> None:
    """Simulate frames as a KITTI folder."""
    _refuse(
        "kitti",
        {"--scene_frames": args.scene_frames is not None, "--version": args.version is not None},
    )
    root = create_synthetic_kitti(
        args.out,
        args.frames,
        args.seed,
        val_frames=args.val_frames,
        holdout_frames=args.holdout_frames,
        unlabelled_frames=args.unlabelled_frames,
        sensors=args.sensor or [STANDARD],
        scenes=read_scenes(args.scenes),
        sweeps=1 if args.sweeps is None else args.sweeps,
        workers=args.workers,
    )
    numbers = _numbers_of_frames(root)
    if numbers:
        print(f"{root}: {numbers} frames; 'pcdet-distill data kitti YAML' makes their info files")


def _numbers_of_frames(root: Path) -> str:
    """Such as "400 train, 100 val"; empty while parts of the folder are missing."""
    numbers = []
    for split in ("train", "val", "holdout", "unlabelled"):
        file = split_file(root, split)
        count = len(file.read_text().split()) if file.is_file() else 0
        if count:
            numbers.append(f"{count} {split}")
    return ", ".join(numbers)


def _refuse(data_format: str, given: dict[str, bool]) -> None:
    """Refuse flags that a format does not have, rather than ignore them."""
    for flag, is_given in given.items():
        if is_given:
            raise ConfigError(
                f"{flag}: is not for simulated data in the format {data_format}; leave it out"
            )
