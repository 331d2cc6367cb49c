"""What follows from the command line and the config: batch size, seed, workers, output folder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ...config import errors_name_file, load_config
from ...errors import ConfigError
from ...processes import available_cores
from ..checkpoints.randomness import FIXED_SEED
from ..distributed import World
from ..optimization import setting


def read_config(args: argparse.Namespace) -> Any:
    """The config that ``--cfg_file`` and ``--set`` describe."""
    if args.cfg_file is None:
        raise ConfigError(
            "--cfg_file: missing; expected a yaml file such as cfgs/kitti_models/pointpillar.yaml"
        )
    cfg = load_config(args.cfg_file, args.set_cfgs or ())
    if not cfg.get("OPTIMIZATION"):
        raise ConfigError(
            f"{cfg.CONFIG_FILE}: key OPTIMIZATION is missing; expected a whole experiment"
        )
    return cfg


def batch_size_per_process(args: argparse.Namespace, cfg: Any, world: World) -> int:
    """``--batch_size`` counts all processes together, the config's value each one."""
    if args.batch_size is None:
        with errors_name_file(cfg):
            return int(setting(cfg.OPTIMIZATION, "BATCH_SIZE_PER_GPU"))
    if args.batch_size % world.size:
        raise ConfigError(
            f"--batch_size {args.batch_size}: expected a multiple of the {world.size} processes"
        )
    return args.batch_size // world.size


def chosen_seed(args: argparse.Namespace) -> int | None:
    """The seed that the command line asks for; None: none."""
    if args.seed is not None and args.fix_random_seed:
        raise ConfigError(
            f"--seed {args.seed} and --fix_random_seed (which is --seed {FIXED_SEED}): give one of them"
        )
    return FIXED_SEED if args.fix_random_seed else args.seed


def data_workers(args: argparse.Namespace, world: World) -> int:
    """Loader processes to start: what was asked for, but no more than cores (the batches are the same)."""
    return min(args.workers, max(1, available_cores() // world.local_size))


def output_folder(cfg: Any, extra_tag: str) -> Path:
    """``output/<cfg group>/<cfg name>/<extra_tag>``."""
    return Path(cfg.ROOT_DIR) / "output" / cfg.EXP_GROUP_PATH / cfg.TAG / extra_tag
