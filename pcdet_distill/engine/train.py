"""tools/train.py from beginning to end: set up, train (the loop is in ``loop``), evaluate.

``python -m pcdet_distill.engine.train --cfg_file ...`` runs it without the tools folder.
"""

from __future__ import annotations

import argparse
import datetime
from contextlib import nullcontext, suppress

from ..errors import ConfigError, exit_on_user_error
from .checkpoints import exclusive_folder
from .cli.arguments import add_train_arguments
from .cli.settings import output_folder, read_config, run_name
from .evaluate import Evaluator, evaluate_checkpoints, test_loader
from .logging import (
    CostMeter,
    MetricWriter,
    Progress,
    check_writable,
    config_text,
    duration_text,
    make_folder,
    open_log_file,
    write_config,
)
from .loop import Trainer
from .run import Run, start_run
from .setup import build_trainer
from .stopping import StopRequest

__all__ = ["add_train_arguments", "run_training"]

EVALUATIONS = "eval/eval_with_train"


def run_training(args: argparse.Namespace) -> None:
    """Run tools/train.py with the parsed flags ``args``."""
    cfg = read_config(args)
    stop = StopRequest()
    with stop.handled(), start_run(args, cfg, output_folder(cfg, args.extra_tag)) as run:
        train_and_evaluate(run, stop)


def train_and_evaluate(run: Run, stop: StopRequest) -> None:
    """Everything between the start of the processes and their end."""
    for name in ("ckpt", "tensorboard", EVALUATIONS):
        check_writable(run.folder / name)
    before = checkpoint_times(run)
    trainer = build_trainer(run)
    # Built now, so that a missing test split is found before the training.
    loader = test_loader(run)
    with exclusive_folder(run.folder) if run.world.is_main else nullcontext():
        refuse_later_checkpoints(run, before)
        train(run, trainer, stop)
        stop.at_once = "the training is complete, and the same command evaluates it"
        evaluator = Evaluator(run, trainer.model, loader)
        evaluate_last_epochs(run, evaluator, trainer.options.epochs)


def checkpoint_times(run: Run) -> dict[str, int]:
    """The checkpoints of the output folder, and when they were written."""
    times = {}
    for path in (run.folder / "ckpt").glob("*.pth"):
        with suppress(FileNotFoundError):  # another training may be at work
            times[path.name] = path.stat().st_mtime_ns
    return times


def refuse_later_checkpoints(run: Run, before: dict[str, int]) -> None:
    """Stop where another training has written since this one chose where to go on.

    That choice is made before the folder is locked, because a lock is a file, and none is written
    before the input has been checked.
    """
    if run.world.is_main and checkpoint_times(run) != before:
        raise ConfigError(
            f"output folder '{run.folder}': another training wrote checkpoints there while this "
            "one was starting; start the same command again to go on from them"
        )


def train(run: Run, trainer: Trainer, stop: StopRequest) -> None:
    """Train to the last epoch, or until a signal, with log and metrics."""
    if trainer.iteration:
        cost = CostMeter.resumed(run.folder / "metrics.jsonl", trainer.iteration)
    else:
        cost = CostMeter(trainer.data_cost + trainer.init_cost)
    writer = open_output(run, trainer.iteration) if run.world.is_main else None
    run.world.barrier()
    progress = Progress(
        run.logger,
        writer,
        epochs=trainer.options.epochs,
        per_epoch=trainer.batches.per_epoch,
        interval=run.args.logger_iter_interval,
        bar_only=run.args.use_tqdm_to_record,
        gpu_stat=run.device.type == "cuda" and not run.args.wo_gpu_stat,
        cost=cost,
        check=trainer.loss_watch.check,
    )
    run.logger.info(f"start training {run_name(run.cfg, run.args.extra_tag)}")
    try:
        trainer.run(progress, stop)
    finally:
        if writer is not None:
            writer.close()
    spent = cost.read()
    run.logger.info(
        f"end of training after {duration_text(spent.wall_s)} ({spent.cpu_s:.0f} s of CPU); "
        f"checkpoints are in {trainer.options.ckpt_dir}"
    )


def open_output(run: Run, iteration: int) -> MetricWriter:
    """Create the output folder with log, config and metrics. The input has been checked by now.

    Records after ``iteration``, where the training continues, are dropped.
    """
    ckpt_dir = make_folder(run.folder / "ckpt")
    for unfinished in ckpt_dir.glob(".*.partial"):  # left by a kill while it was written
        unfinished.unlink()
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    open_log_file(run.logger, run.folder / f"train_{stamp}.log")
    write_config(run.cfg, run.folder / f"{run.cfg.TAG}.yaml")
    run.logger.debug(f"arguments: {vars(run.args)}")
    run.logger.debug(f"config:\n{config_text(run.cfg)}")
    run.logger.info(f"output: {run.folder} (config: {run.cfg.TAG}.yaml)")
    return MetricWriter(
        run.folder / "metrics.jsonl", run.folder / "tensorboard", keep_until=iteration
    )


def evaluate_last_epochs(run: Run, evaluator: Evaluator, epochs: int) -> None:
    """Evaluate the last checkpoint and those of ``--num_epochs_to_eval`` epochs before it."""
    start_epoch = max(epochs - run.args.num_epochs_to_eval, run.args.start_epoch)
    folder = run.folder / EVALUATIONS
    if run.world.is_main:
        make_folder(folder)
    run.world.barrier()
    outcomes = evaluate_checkpoints(
        evaluator,
        run.folder / "ckpt",
        folder,
        start_epoch=start_epoch,
        waiting_mins=run.args.max_waiting_mins,
        last_epoch=epochs,
    )
    if not outcomes:
        run.logger.info(
            f"nothing new to evaluate from epoch {start_epoch} on; results are in {folder}"
        )


@exit_on_user_error
def main() -> None:
    """``python -m pcdet_distill.engine.train``."""
    parser = argparse.ArgumentParser(
        prog="python -m pcdet_distill.engine.train",
        description="Train a detector, plain or distilled, and evaluate it.",
    )
    run_training(add_train_arguments(parser).parse_args())


if __name__ == "__main__":
    main()
