"""What the parts of one run share, and how every run begins."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from easydict import EasyDict

from ..checkpoint import ReadingPolicy, reading
from ..models.device import choose_device
from .distributed import World, join_world
from .logging import check_writable, create_logger
from .resources import keep_freed_memory


@dataclass(frozen=True)
class Run:
    """One call of tools/train.py or tools/test.py.

    Attributes:
        args: the command line.
        cfg: the config that ``--cfg_file`` and ``--set`` describe.
        folder: output folder, which need not exist yet.
        device: where the model runs.
        world: the processes of the run.
        logger: of this process; silent in all but the main process.
    """

    args: argparse.Namespace
    cfg: EasyDict
    folder: Path
    device: torch.device
    world: World
    logger: logging.Logger

    @property
    def test_split(self) -> str:
        """Name of the split that is evaluated."""
        return self.cfg.DATA_CONFIG.DATA_SPLIT["test"]


@contextmanager
def start_run(args: argparse.Namespace, cfg: EasyDict, folder: Path) -> Iterator[Run]:
    """Connect the processes and choose the device. Nothing is written to ``folder`` yet."""
    with join_world(
        args.launcher,
        args.device,
        args.tcp_port,
        local_rank=args.local_rank,
        waiting_mins=args.max_waiting_mins,
        step_timeout_mins=args.rank_timeout,
    ) as world:
        logger = create_logger(world.is_main)
        check_writable(folder)
        device = choose_device(args.device, world.local_rank)
        keep_freed_memory(device)
        with reading(ReadingPolicy(args.allow_nonfinite, note=logger.info)):
            yield Run(args=args, cfg=cfg, folder=folder, device=device, world=world, logger=logger)
