"""Settings that follow from the command line and the config together."""

from __future__ import annotations

import argparse
from pathlib import Path

from easydict import EasyDict

from ...config import add_plugin_folders, errors_name_file, load_config
from ...errors import ConfigError
from ..checkpoints.randomness import FIXED_SEED
from ..distributed import World
from ..optimization import whole_number


def read_config(args: argparse.Namespace) -> EasyDict:
    """The config that ``--cfg_file`` and ``--set`` describe."""
    if args.cfg_file is None:
        raise ConfigError(
            "--cfg_file: missing; expected a yaml file such as cfgs/kitti_models/pointpillar.yaml"
        )
    add_plugin_folders(args.plugin)
    cfg = load_config(args.cfg_file, args.set_cfgs or ())
    if not cfg.get("OPTIMIZATION"):
        raise ConfigError(
            f"{cfg.CONFIG_FILE}: key OPTIMIZATION is missing; expected a whole experiment"
        )
    return cfg


def batch_size_per_process(args: argparse.Namespace, cfg: EasyDict, world: World) -> int:
    """``--batch_size`` counts all processes together, BATCH_SIZE_PER_GPU each one."""
    if args.batch_size is None:
        with errors_name_file(cfg):
            return whole_number(cfg.OPTIMIZATION, "BATCH_SIZE_PER_GPU")
    if args.batch_size % world.size:
        raise ConfigError(
            f"--batch_size {args.batch_size}: expected a multiple of the {world.size} processes"
        )
    return args.batch_size // world.size


def number_of_epochs(args: argparse.Namespace, cfg: EasyDict) -> int:
    """``--epochs``, or NUM_EPOCHS of the config."""
    if args.epochs is not None:
        return args.epochs
    with errors_name_file(cfg):
        return whole_number(cfg.OPTIMIZATION, "NUM_EPOCHS")


def requested_seed(args: argparse.Namespace) -> int | None:
    """The seed of the command line, or None where it names none."""
    if args.seed is not None and args.fix_random_seed:
        raise ConfigError(
            f"--seed {args.seed} and --fix_random_seed (which is --seed {FIXED_SEED}): "
            "give one of them"
        )
    return FIXED_SEED if args.fix_random_seed else args.seed


def data_workers(args: argparse.Namespace, world: World) -> int:
    """Number of loader processes: ``--workers``, but no more than there are cores.

    More would only wait for each other. The batches are the same for any number.
    """
    return min(args.workers, world.cores_per_process)


def output_folder(cfg: EasyDict, extra_tag: str) -> Path:
    """``output/<cfg group>/<cfg name>/<extra_tag>``."""
    check_tag("--extra_tag", extra_tag)
    return Path(cfg.ROOT_DIR) / "output" / cfg.EXP_GROUP_PATH / cfg.TAG / extra_tag


def check_tag(flag: str, tag: str) -> None:
    """Refuse a tag that leads out of ``output/``."""
    path = Path(tag)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in tag:
        raise ConfigError(
            f"{flag} {tag!r}: expected the name of a folder inside output/, "
            "not absolute and without '..'"
        )


def run_name(cfg: EasyDict, extra_tag: str) -> str:
    """``<cfg group>/<cfg name> (<extra_tag>)``; a config outside any ``cfgs`` has no group."""
    parts = [part for part in (cfg.EXP_GROUP_PATH, cfg.TAG) if part]
    return f"{'/'.join(parts)} ({extra_tag})"
