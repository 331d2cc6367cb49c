"""tools/train.py from beginning to end: build the trainer, train, evaluate."""

from __future__ import annotations

import argparse
import datetime
import logging
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from .checkpoints.run_lock import exclusive_folder
from .cli.arguments import add_train_arguments
from .cli.settings import output_folder, read_config
from .distributed import join_world
from .evaluate import Evaluator, evaluate_checkpoints, test_loader
from .logging import (
    MetricWriter,
    check_writable,
    config_text,
    create_logger,
    duration_text,
    make_folder,
    open_log_file,
    write_config,
)
from .logging.cost import CostMeter
from .logging.progress import Progress
from .loop import Trainer, TrainOptions
from .resources.device import choose_device
from .resources.heap import keep_freed_memory
from .setup import build_trainer

__all__ = ["add_train_arguments", "run_training"]

EVALUATIONS = "eval/eval_with_train"


def run_training(args: argparse.Namespace) -> None:
    """Do what tools/train.py was asked for."""
    cfg = read_config(args)
    with join_world(
        args.launcher, args.device, args.tcp_port, args.local_rank, args.max_waiting_mins
    ) as world:
        logger = create_logger(world.is_main)
        folder = output_folder(cfg, args.extra_tag)
        for place in (folder, folder / "ckpt", folder / "tensorboard", folder / EVALUATIONS):
            check_writable(place)
        device = choose_device(args.device, world.local_rank)
        keep_freed_memory(device)
        trainer = build_trainer(args, cfg, folder, device, world, logger)
        loader = test_loader(
            args, cfg, world, logger
        )  # a missing test split is found now, not after training
        with exclusive_folder(folder) if world.is_main else nullcontext():
            _train(args, cfg, folder, trainer, logger)
            evaluator = Evaluator(trainer.model, loader, logger, world, device, args.save_to_file)
            _evaluate(args, cfg, folder, trainer.options, evaluator)


def _train(
    args: argparse.Namespace, cfg: Any, folder: Path, trainer: Trainer, logger: logging.Logger
) -> None:
    """The training itself, with its log and metrics."""
    cost = (
        CostMeter.resumed(folder / "metrics.jsonl", trainer.it)
        if trainer.it
        else CostMeter(trainer.init_cost)
    )
    writer = _open(args, cfg, folder, trainer, logger) if trainer.world.is_main else None
    trainer.world.barrier()
    progress = Progress(
        logger,
        writer,
        epochs=trainer.options.epochs,
        per_epoch=trainer.batches.per_epoch,
        interval=args.logger_iter_interval,
        bar_only=args.use_tqdm_to_record,
        gpu_stat=not args.wo_gpu_stat and trainer.device.type == "cuda",
        cost=cost,
    )
    logger.info(f"start training {cfg.EXP_GROUP_PATH}/{cfg.TAG}({args.extra_tag})")
    trainer.run(progress)
    if writer is not None:
        writer.close()
    spent = cost.read()
    logger.info(
        f"end of training after {duration_text(spent.wall_s)} ({spent.cpu_s:.0f} s of CPU); checkpoints are in "
        f"{trainer.options.ckpt_dir}"
    )


def _open(
    args: argparse.Namespace, cfg: Any, folder: Path, trainer: Trainer, logger: logging.Logger
) -> MetricWriter:
    """Create the output folder with log, config and metrics, now that the input has proved good."""
    for cut_off in make_folder(folder / "ckpt").glob(
        ".*.partial"
    ):  # a run was killed while it wrote this
        cut_off.unlink()
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    open_log_file(logger, folder / f"train_{stamp}.log")
    write_config(cfg, folder / f"{cfg.TAG}.yaml")
    logger.debug(f"arguments: {vars(args)}")
    logger.debug(f"config:\n{config_text(cfg)}")
    logger.info(f"output: {folder} (config: {cfg.TAG}.yaml)")
    return MetricWriter(folder / "metrics.jsonl", folder / "tensorboard", first_it=trainer.it)


def _evaluate(
    args: argparse.Namespace, cfg: Any, folder: Path, options: TrainOptions, evaluator: Evaluator
) -> None:
    """The checkpoints of the last epochs. The last one was written just now, so there is nothing to wait for."""
    start_epoch = max(options.epochs - args.num_epochs_to_eval, args.start_epoch)
    split = cfg.DATA_CONFIG.DATA_SPLIT["test"]
    eval_folder = folder / EVALUATIONS
    if evaluator.world.is_main:
        make_folder(eval_folder)
    evaluator.world.barrier()
    outcomes = evaluate_checkpoints(
        evaluator,
        options.ckpt_dir,
        eval_folder,
        split,
        start_epoch=start_epoch,
        waiting_mins=args.max_waiting_mins,
        last_epoch=options.epochs,
    )
    if not outcomes:
        evaluator.logger.info(
            f"nothing new to evaluate from epoch {start_epoch} on; results are in {eval_folder}"
        )
