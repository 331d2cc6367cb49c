"""From the command line and the config to a Trainer, at its first iteration or where it was interrupted."""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..config import errors_name_file
from ..errors import ConfigError
from ..models import load_data_to_device
from ..processes import available_cores
from ..seeds import draw_seed
from .batches import TrainingBatches
from .build import build_dataloader, build_trained_model
from .checkpoints.files import find_newest, load_with_optimizer
from .checkpoints.randomness import seed_everything
from .cli.settings import batch_size_per_process, chosen_seed, data_workers
from .distributed import World, share_batch_norm
from .logging.cost import CostMeter
from .loop import Trainer, TrainOptions
from .optimization import setting
from .resources.device import prepare_for_device
from .resources.threads import CHOSEN_BY_USER, tune_threads

Resume = tuple[Path, dict[str, Any]] | None


def build_trainer(
    args: argparse.Namespace,
    cfg: Any,
    folder: Path,
    device: torch.device,
    world: World,
    logger: logging.Logger,
) -> Trainer:
    """The trainer, where it left off. Writes nothing."""
    resume = _find_resume(args, folder, world, logger)
    options = _options(args, cfg, folder, device, logger)
    seed = _seed(args, resume, world, logger)
    seed_everything(seed + world.rank)
    dataset, batches = _training_data(args, cfg, options.epochs, seed, world, logger)
    _apply_hook(args, cfg, dataset, options.epochs, logger)
    model = build_trained_model(
        cfg,
        dataset,
        pretrained_model=args.pretrained_model,
        teacher_ckpt=args.teacher_ckpt,
        logger=logger,
    )
    if args.sync_bn:
        model = share_batch_norm(model, world, device)
    model = prepare_for_device(model, device).train()
    with errors_name_file(cfg):
        if resume is None and world.is_main:
            model.check_before_training(batches, logger)
        meter = CostMeter()
        if resume is None and args.pretrained_model is None and world.is_main:
            model.init_before_training(batches, logger)
        init_cost = meter.read()
        trainer = Trainer(
            model, batches, cfg.OPTIMIZATION, options, device=device, world=world, seed=seed
        )
    trainer.init_cost = init_cost
    _choose_threads(trainer, resume, logger)
    if resume is not None:
        trainer.resume(resume[1], str(resume[0]), logger)
        logger.info(
            f"resumed from {resume[0]}: {trainer.it} iterations of "
            f"{options.epochs * batches.per_epoch} are done"
        )
    return trainer


def _training_data(
    args: argparse.Namespace, cfg: Any, epochs: int, seed: int, world: World, logger: logging.Logger
) -> tuple[Any, TrainingBatches]:
    """The training split and its batches."""
    batch_size = batch_size_per_process(args, cfg, world)
    with errors_name_file(cfg):
        dataset, loader, sampler = build_dataloader(
            cfg.DATA_CONFIG,
            cfg.CLASS_NAMES,
            batch_size,
            dist=world.size > 1,
            root_dir=cfg.ROOT_DIR,
            workers=data_workers(args, world),
            seed=seed,
            training=True,
            merge_all_iters_to_one_epoch=args.merge_all_iters_to_one_epoch,
            total_epochs=epochs,
            skip_bad_frames=args.skip_bad_frames,
            logger=logger,
        )
    return dataset, TrainingBatches(
        loader, sampler, epochs if args.merge_all_iters_to_one_epoch else 1
    )


def _find_resume(
    args: argparse.Namespace, folder: Path, world: World, logger: logging.Logger
) -> Resume:
    """The checkpoint to go on from: --ckpt, else the one in ckpt/ that went furthest, else None."""
    if args.ckpt is not None:
        return Path(args.ckpt), load_with_optimizer(Path(args.ckpt))
    found = find_newest(folder / "ckpt", logger) if world.is_main else None
    path = world.broadcast(found[0] if found else None)
    if path is None or found is not None:
        return found
    return path, load_with_optimizer(path)


def _options(
    args: argparse.Namespace, cfg: Any, folder: Path, device: torch.device, logger: logging.Logger
) -> TrainOptions:
    """The command line and config as the loop wants them."""
    use_amp = args.use_amp or bool(cfg.OPTIMIZATION.get("USE_AMP", False))
    if use_amp and device.type != "cuda":
        logger.warning("mixed precision is for CUDA; on this CPU training runs in float32")
    return TrainOptions(
        epochs=_epochs(args, cfg),
        ckpt_dir=folder / "ckpt",
        save_interval=args.ckpt_save_interval,
        save_seconds=args.ckpt_save_time_interval,
        keep=args.max_ckpt_save_num,
        log_interval=args.logger_iter_interval,
        use_amp=use_amp and device.type == "cuda",
    )


def _epochs(args: argparse.Namespace, cfg: Any) -> int:
    """How many epochs to train, in all."""
    if args.epochs is not None:
        return args.epochs
    with errors_name_file(cfg):
        return int(setting(cfg.OPTIMIZATION, "NUM_EPOCHS"))


def _seed(args: argparse.Namespace, resume: Resume, world: World, logger: logging.Logger) -> int:
    """The seed of --seed, or 666 with --fix_random_seed; else the resumed run's; else a drawn one for all processes."""
    stored = resume[1].get("seed") if resume is not None else None
    chosen = chosen_seed(args)
    if chosen is not None:
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        if args.seed is not None and stored not in (None, chosen):
            raise ConfigError(
                f"--seed {chosen}: the training to resume, {resume[0]}, has seed {stored}; give that one "
                "or choose another --extra_tag"
            )
        return chosen
    seed = stored if stored is not None else world.broadcast(draw_seed())
    logger.info(f"random seed: {seed}{'' if stored is None else ' (as before the interruption)'}")
    return seed


def _apply_hook(
    args: argparse.Namespace, cfg: Any, dataset: Any, epochs: int, logger: logging.Logger
) -> None:
    """HOOK.DisableAugmentationHook: the last NUM_LAST_EPOCHS epochs go without the augmentations it lists."""
    hook = (cfg.get("HOOK") or {}).get("DisableAugmentationHook")
    if not hook:
        return
    if args.merge_all_iters_to_one_epoch:
        raise ConfigError(
            "--merge_all_iters_to_one_epoch: HOOK.DisableAugmentationHook counts epochs, and merged "
            "there is only one; leave one of the two out"
        )
    first = max(epochs - hook.NUM_LAST_EPOCHS, 0)
    dataset.disable_augmentations(hook.DISABLE_AUG_LIST, first)
    logger.info(
        f"from epoch {first + 1} on without the augmentations {', '.join(hook.DISABLE_AUG_LIST)}"
    )


def _choose_threads(trainer: Trainer, resume: Resume, logger: logging.Logger) -> None:
    """On a CPU: the threads of the interrupted run, else those a few timed steps recommend."""
    if trainer.device.type != "cpu":
        return
    most = max(1, available_cores() // trainer.world.local_size)
    before = resume[1].get("threads") if resume is not None else None
    if before and before <= most and not any(os.environ.get(name) for name in CHOSEN_BY_USER):
        torch.set_num_threads(before)
        logger.info(f"CPU threads: {before} (as before the interruption)")
        return

    def run(model: nn.Module, batch: dict[str, Any]) -> None:
        load_data_to_device(batch, trainer.device)
        model(batch)[0]["loss"].mean().backward()

    threads = tune_threads(trainer.model, run, trainer.batches.sample, logger, most)
    torch.set_num_threads(trainer.world.broadcast(threads))
