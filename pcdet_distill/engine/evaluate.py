"""tools/test.py: evaluate one checkpoint, or every checkpoint of a folder as it appears."""

from __future__ import annotations

import argparse
import datetime
import logging
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.utils.data import DataLoader

from ..checkpoint import load_checkpoint
from ..config import errors_name_file
from ..datasets import DatasetTemplate
from ..errors import CheckpointError, ConfigError
from ..models import load_data_to_device
from ..models.trainable import TrainableModule
from ..processes import available_cores
from .batches import first_batch
from .build import build_dataloader, build_model, teacher_experiment
from .checkpoints.files import next_unevaluated, wait_for
from .cli.arguments import add_test_arguments
from .cli.settings import (
    batch_size_per_process,
    data_workers,
    output_folder,
    read_config,
)
from .distributed import World, join_world
from .evaluation.loop import EvalOutcome, evaluate_model
from .logging import (
    MetricWriter,
    check_writable,
    config_text,
    create_logger,
    environment,
    make_folder,
    open_log_file,
    writing,
)
from .resources.device import choose_device, prepare_for_device
from .resources.heap import keep_freed_memory
from .resources.threads import tune_threads

__all__ = [
    "EvalOutcome",
    "add_test_arguments",
    "evaluate_checkpoints",
    "evaluate_model",
    "run_testing",
    "test_loader",
]


@dataclass(frozen=True)
class Evaluator:
    """What stays the same from checkpoint to checkpoint."""

    model: TrainableModule
    loader: DataLoader
    logger: logging.Logger
    world: World
    device: torch.device
    save_to_file: bool = False
    infer_time: bool = False

    def evaluate(self, epoch_id: str | int, result_dir: Path) -> EvalOutcome:
        """The model as it is now."""
        return evaluate_model(
            self.model,
            self.loader,
            device=self.device,
            logger=self.logger,
            epoch_id=epoch_id,
            result_dir=result_dir,
            save_to_file=self.save_to_file,
            infer_time=self.infer_time,
            world=self.world,
        )


def test_loader(
    args: argparse.Namespace, cfg: Any, world: World, logger: logging.Logger
) -> DataLoader:
    """The frames of DATA_SPLIT.test, in order. Processes share batches out themselves, so none is padded."""
    batch_size = batch_size_per_process(args, cfg, world)
    with errors_name_file(cfg):
        _, loader, _ = build_dataloader(
            cfg.DATA_CONFIG,
            cfg.CLASS_NAMES,
            batch_size,
            dist=False,
            root_dir=cfg.ROOT_DIR,
            workers=data_workers(args, world),
            seed=0,
            training=False,
            skip_bad_frames=args.skip_bad_frames,
            logger=logger,
        )
    return loader


def _evaluated(record: Path) -> list[int]:
    """The epochs listed in ``eval_list_<split>.txt``."""
    if not record.is_file():
        return []
    try:
        return [int(float(line)) for line in record.read_text().split()]
    except ValueError as error:
        raise ConfigError(
            f"{record}: expected the number of an epoch on each line ({error}); delete the file to "
            "evaluate all checkpoints again"
        ) from None


def evaluate_checkpoints(
    evaluator: Evaluator,
    ckpt_dir: Path,
    folder: Path,
    split: str,
    *,
    start_epoch: int,
    waiting_mins: float,
    last_epoch: int | None = None,
) -> dict[int, EvalOutcome]:
    """Evaluate the epoch checkpoints of ``ckpt_dir`` not yet in the list of ``folder``, earliest first.

    Waits for more until ``waiting_mins`` have passed without one, or until ``last_epoch`` is done.
    """
    world, record = evaluator.world, folder / f"eval_list_{split}.txt"
    outcomes: dict[int, EvalOutcome] = {}
    while True:
        done = _evaluated(record)
        minutes = 0 if last_epoch in done else waiting_mins
        look = partial(next_unevaluated, ckpt_dir, done, start_epoch)
        found = world.broadcast(
            world.is_main
            and wait_for(look, minutes, evaluator.logger.info, f"a checkpoint in {ckpt_dir}")
        )
        if not found:
            return outcomes
        epoch, path = found
        evaluator.model.load_checkpoint_state(load_checkpoint(path), str(path))
        outcomes[epoch] = evaluator.evaluate(epoch, folder / f"epoch_{epoch}" / split)
        if world.is_main:
            _record(epoch, outcomes[epoch], record, folder / f"tensorboard_{split}")
            evaluator.logger.info(f"Epoch {epoch} has been evaluated")
        world.barrier()


def _record(epoch: int, outcome: EvalOutcome, record: Path, tensorboard_dir: Path) -> None:
    """Note that ``epoch`` is done, in the list, metrics.jsonl and TensorBoard."""
    writer = MetricWriter(record.parent / "metrics.jsonl", tensorboard_dir, first_it=2**62)
    writer.write("eval", epoch, outcome.ret_dict, outcome.ret_dict)
    writer.close()
    with writing(record), record.open("a") as file:
        file.write(f"{epoch}\n")


def epoch_of_checkpoint(ckpt: str) -> str:
    """The last number in the path of a checkpoint, as OpenPCDet names its result folders."""
    found = re.findall(r"\d+", ckpt)
    return found[-1] if found else "no_number"


def _result_folder(args: argparse.Namespace, cfg: Any) -> Path:
    """Where logs and results go."""
    base = output_folder(cfg, args.extra_tag) / "eval"
    if args.teacher:
        return base / "teacher" / cfg.DATA_CONFIG.DATA_SPLIT["test"] / args.eval_tag
    if args.eval_all:
        return base / "eval_all_default" / args.eval_tag
    return (
        base
        / f"epoch_{epoch_of_checkpoint(args.ckpt)}"
        / cfg.DATA_CONFIG.DATA_SPLIT["test"]
        / args.eval_tag
    )


def _load(model: TrainableModule, args: argparse.Namespace) -> None:
    """--ckpt into ``model``, completely; what --pretrained_model holds may be missing in it."""
    checkpoint = load_checkpoint(args.ckpt)
    if args.pretrained_model is not None:
        before = load_checkpoint(args.pretrained_model)["model_state"]
        own = model.checkpoint_state()["model_state"]
        before = {key: value for key, value in before.items() if key in own}
        checkpoint["model_state"] = {**before, **checkpoint["model_state"]}
    where = f"{args.ckpt}, as the teacher of {args.cfg_file}" if args.teacher else args.ckpt
    model.load_checkpoint_state(checkpoint, where)


def _tune(
    model: nn.Module, loader: DataLoader, device: torch.device, world: World, logger: logging.Logger
) -> None:
    """Choose the number of CPU threads for inference."""
    if device.type != "cpu" or len(loader) == 0:
        return

    def run(model: nn.Module, batch: dict[str, Any]) -> None:
        load_data_to_device(batch, device)
        with torch.no_grad():
            model(batch)

    tune_threads(
        model.eval(),
        run,
        lambda: first_batch(loader),
        logger,
        max(1, available_cores() // world.local_size),
    )


def _check_arguments(args: argparse.Namespace) -> None:
    """Refuse what cannot be meant."""
    if args.teacher_ckpt is not None and not args.teacher:
        raise ConfigError(
            "--teacher_ckpt: a teacher is evaluated with --teacher only; to test a detector give --ckpt"
        )
    if args.teacher:
        if args.eval_all or args.ckpt is not None or args.pretrained_model is not None:
            raise ConfigError(
                "--teacher: evaluates the teacher alone; leave --ckpt, --pretrained_model and --eval_all "
                "out"
            )
        return
    if args.ckpt is None and not args.eval_all:
        raise CheckpointError(
            "--ckpt: missing; expected a checkpoint to evaluate, or --eval_all for all of a run"
        )
    if args.eval_all and (args.ckpt is not None or args.pretrained_model is not None):
        raise ConfigError(
            "--eval_all: evaluates what is in --ckpt_dir; leave --ckpt and --pretrained_model out"
        )


def _evaluate_one(evaluator: Evaluator, args: argparse.Namespace, folder: Path) -> None:
    """--ckpt FILE, already loaded."""
    _tune(evaluator.model, evaluator.loader, evaluator.device, evaluator.world, evaluator.logger)
    evaluator.evaluate("teacher" if args.teacher else epoch_of_checkpoint(args.ckpt), folder)


def _evaluate_all(evaluator: Evaluator, args: argparse.Namespace, cfg: Any, folder: Path) -> None:
    """--eval_all."""
    ckpt_dir = Path(args.ckpt_dir) if args.ckpt_dir else output_folder(cfg, args.extra_tag) / "ckpt"
    _tune(evaluator.model, evaluator.loader, evaluator.device, evaluator.world, evaluator.logger)
    split = cfg.DATA_CONFIG.DATA_SPLIT["test"]
    outcomes = evaluate_checkpoints(
        evaluator,
        ckpt_dir,
        folder,
        split,
        start_epoch=args.start_epoch,
        waiting_mins=args.max_waiting_mins,
    )
    if not outcomes and not _evaluated(folder / f"eval_list_{split}.txt"):
        raise CheckpointError(
            f"--eval_all: no checkpoint_epoch_N.pth with N >= {args.start_epoch} in '{ckpt_dir}' "
            f"after waiting {args.max_waiting_mins} minutes"
        )
    if not outcomes:
        evaluator.logger.info(
            f"nothing new in {ckpt_dir}: all its checkpoints are listed in {folder}"
        )


def _open(
    args: argparse.Namespace, cfg: Any, folder: Path, world: World, logger: logging.Logger
) -> None:
    """Create the result folder and its log, now that the input has proved good."""
    if world.is_main:
        stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
        open_log_file(logger, make_folder(folder) / f"log_eval_{stamp}.txt")
        logger.debug(f"arguments: {vars(args)}")
        logger.debug(f"environment: {environment()}\n{config_text(cfg)}")
    world.barrier()


def run_testing(args: argparse.Namespace) -> None:
    """Do what tools/test.py was asked for."""
    _check_arguments(args)
    cfg = read_config(args)
    if args.teacher:
        cfg, args.ckpt = teacher_experiment(cfg, args.teacher_ckpt)
    with join_world(
        args.launcher, args.device, args.tcp_port, args.local_rank, args.max_waiting_mins
    ) as world:
        logger = create_logger(world.is_main)
        folder = _result_folder(args, cfg)
        check_writable(folder)
        device = choose_device(args.device, world.local_rank)
        keep_freed_memory(device)
        loader = test_loader(args, cfg, world, logger)
        model = prepare_for_device(build_model(cfg, cast(DatasetTemplate, loader.dataset)), device)
        if not args.eval_all:
            _load(model, args)
        evaluator = Evaluator(
            model, loader, logger, world, device, args.save_to_file, args.infer_time
        )
        _open(args, cfg, folder, world, logger)
        if args.eval_all:
            _evaluate_all(evaluator, args, cfg, folder)
        else:
            _evaluate_one(evaluator, args, folder)
