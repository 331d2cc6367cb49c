"""``pcdet-distill data nuscenes``: info files and object database from the official tables."""

from __future__ import annotations

import argparse

from ..config import NuScenesOptions, load_config, required, resolve_data_path
from ..config.override import add_set_argument
from ..datasets.nuscenes.create import create_nuscenes_infos, info_file
from ..datasets.nuscenes.folder import DATASET_YAML, NuScenesFolder
from ..errors import ConfigError
from ..types import ConfigDict

DATASET = "NuScenesDataset"


def add_nuscenes(parser: argparse.ArgumentParser) -> None:
    """Add the flags: which version is prepared, and how."""
    parser.add_argument(
        "cfg", help="yaml of the dataset or of an experiment; DATA_PATH/VERSION is the folder"
    )
    parser.add_argument(
        "--version",
        default=None,
        help="v1.0-mini, v1.0-trainval or v1.0-test (default: VERSION of the yaml)",
    )
    parser.add_argument(
        "--with_cam", action="store_true", help="describe all cameras in the info files too"
    )
    add_set_argument(parser)


def prepare_nuscenes(args: argparse.Namespace) -> None:
    """Make what training on nuScenes needs, and say what was made."""
    config = load_config(args.cfg, args.set_cfgs)
    data_config = dict(config.get("DATA_CONFIG", config))
    if data_config.get("DATASET") != DATASET:
        raise ConfigError(
            f"{args.cfg}: DATASET is {data_config.get('DATASET')}, expected {DATASET}, as in "
            f"{DATASET_YAML}"
        )
    if args.version is not None:
        data_config["VERSION"] = args.version
    options = NuScenesOptions.from_config(data_config)
    root = resolve_data_path(required(data_config, "DATA_PATH", args.cfg), config.ROOT_DIR)
    folder = NuScenesFolder(root, options.version)
    folder.check_tables()
    print(f"reading the tables of {folder.tables}")
    created = create_nuscenes_infos(
        folder, options.max_sweeps, with_cam=args.with_cam, workers=args.workers
    )
    print(f"{folder.root}: {created.summary()}")
    written = {info_file(options.max_sweeps, split) for split in created.frames}
    asked_for = _info_files(data_config)
    if asked_for.isdisjoint(written):
        print(
            f"INFO_PATH of {args.cfg} names {', '.join(sorted(asked_for)) or 'no file'}; to train "
            f"on these infos, let it name {', '.join(sorted(written))}"
        )


def _info_files(data_config: ConfigDict) -> set[str]:
    """The names in INFO_PATH, of training and testing."""
    names: set[str] = set()
    for paths in (data_config.get("INFO_PATH") or {}).values():
        names.update([paths] if isinstance(paths, str) else paths)
    return names
