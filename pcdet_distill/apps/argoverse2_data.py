"""``pcdet-distill data argoverse2``: info files and object database of Argoverse 2."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..config import Argo2Options, load_config, required, resolve_data_path
from ..config.override import add_set_argument
from ..datasets.argoverse2.infos import VAL_SHARE, create_argoverse2_infos
from ..errors import ConfigError
from ..types import ConfigDict

BASE_YAML = "cfgs/dataset_configs/argoverse2_dataset.yaml"


def add_argoverse2_arguments(argoverse2: argparse.ArgumentParser) -> None:
    """Which folder is prepared, and how it is divided."""
    argoverse2.add_argument(
        "cfg",
        help="yaml of the dataset or of an experiment, whose DATA_PATH is the folder; or the "
        "folder itself",
    )
    argoverse2.add_argument(
        "--val_share",
        type=float,
        default=VAL_SHARE,
        metavar="SHARE",
        help="of a folder without train/ and val/: the share of the logs, the last ones, for "
        f"validation (default: {VAL_SHARE})",
    )
    add_set_argument(argoverse2, example="MAX_SWEEPS 5")


def prepare_argoverse2(args: argparse.Namespace) -> None:
    """Make what training on Argoverse 2 needs, and say what was made."""
    if not 0 < args.val_share < 1:
        raise ConfigError(f"--val_share: expected a number between 0 and 1, found {args.val_share}")
    data_config, root = _read_config(args)
    options = Argo2Options.from_config(data_config)
    encoding = required(data_config, "POINT_FEATURE_ENCODING", "DATA_CONFIG")
    counts = create_argoverse2_infos(
        root,
        options,
        required(encoding, "src_feature_list", "DATA_CONFIG.POINT_FEATURE_ENCODING"),
        val_share=args.val_share,
        workers=args.workers,
    )
    frames = ", ".join(f"{count} {split}" for split, count in counts["frames"].items())
    print(f"{root}: infos of {frames} frames")
    objects = sorted(counts["objects"].items(), key=lambda entry: -entry[1])
    listed = ", ".join(f"{count} {name}" for name, count in objects)
    print(f"objects in gt_database: {listed or 'none'}")


def _read_config(args: argparse.Namespace) -> tuple[ConfigDict, Path]:
    """The DATA_CONFIG block and the folder of the data."""
    if Path(args.cfg).is_dir():
        return load_config(BASE_YAML, args.set_cfgs), Path(args.cfg).resolve()
    config = load_config(args.cfg, args.set_cfgs)
    data_config = config.get("DATA_CONFIG", config)
    data_path = required(data_config, "DATA_PATH", args.cfg)
    return data_config, resolve_data_path(data_path, config.ROOT_DIR)
