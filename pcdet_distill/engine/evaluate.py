"""tools/test.py: evaluate one checkpoint, all checkpoints of a run as they appear, or a teacher.

``python -m pcdet_distill.engine.evaluate --cfg_file ...`` runs it without the tools folder.
"""

from __future__ import annotations

import argparse
import datetime
import re
from pathlib import Path
from typing import cast

from easydict import EasyDict
from torch import nn
from torch.utils.data import DataLoader

from ..checkpoint import load_checkpoint
from ..config import errors_name_file
from ..datasets import DatasetTemplate
from ..errors import CheckpointError, ConfigError, exit_on_user_error
from ..inference import predict_batch
from ..inference.matching_yaml import naming_matching_yaml
from ..models.dense_pass import compile_dense_part
from ..models.device import prepare_for_device
from ..models.trainable import TrainableModule
from ..types import BatchDict
from .batches import first_batch
from .build import build_dataloader, build_model, teacher_experiment
from .cli.arguments import add_test_arguments
from .cli.settings import (
    batch_size_per_process,
    check_tag,
    data_workers,
    output_folder,
    read_config,
)
from .evaluation import (
    EvalOutcome,
    Evaluator,
    evaluate_checkpoints,
    evaluate_model,
    evaluated_list,
    read_evaluated,
)
from .logging import config_text, environment, make_folder, open_log_file
from .resources import tune_threads
from .run import Run, start_run

__all__ = [
    "EvalOutcome",
    "Evaluator",
    "add_test_arguments",
    "epoch_of_checkpoint",
    "evaluate_checkpoints",
    "evaluate_model",
    "run_testing",
    "test_loader",
]


def run_testing(args: argparse.Namespace) -> None:
    """Run tools/test.py with the parsed flags ``args``."""
    check_arguments(args)
    cfg = read_config(args)
    if args.teacher:
        cfg, args.ckpt = teacher_experiment(cfg, args.teacher_ckpt)
    with start_run(args, cfg, result_folder(args, cfg)) as run:
        loader = test_loader(run)
        dataset = cast(DatasetTemplate, loader.dataset)
        model = prepare_for_device(build_model(cfg, dataset), run.device)
        if not args.eval_all:
            load_weights(run, model)
        open_output(run)
        choose_threads(run, model, loader)
        if args.compile:
            compile_dense_part(model, run.device)
        evaluator = Evaluator(run, model, loader, args.infer_time)
        if args.eval_all:
            evaluate_all(run, evaluator)
        elif args.teacher:
            evaluator.evaluate("teacher", run.folder)
        else:
            evaluator.evaluate(epoch_of_checkpoint(args.ckpt), run.folder)


def check_arguments(args: argparse.Namespace) -> None:
    """Refuse flags that are missing or exclude each other."""
    chooses_checkpoint = args.ckpt is not None or args.pretrained_model is not None
    if args.teacher_ckpt is not None and not args.teacher:
        raise ConfigError(
            "--teacher_ckpt: a teacher is evaluated with --teacher only; "
            "to test a detector give --ckpt"
        )
    if args.teacher:
        if args.eval_all or chooses_checkpoint:
            raise ConfigError(
                "--teacher: evaluates the teacher alone; "
                "leave --ckpt, --pretrained_model and --eval_all out"
            )
        return
    if args.ckpt is None and not args.eval_all:
        raise CheckpointError(
            "--ckpt: missing; expected a checkpoint to evaluate, or --eval_all for all of a run"
        )
    if args.eval_all and chooses_checkpoint:
        raise ConfigError(
            "--eval_all: evaluates what is in --ckpt_dir; leave --ckpt and --pretrained_model out"
        )


def result_folder(args: argparse.Namespace, cfg: EasyDict) -> Path:
    """The folder of log and results, as OpenPCDet names it."""
    check_tag("--eval_tag", args.eval_tag)
    folder = output_folder(cfg, args.extra_tag) / "eval"
    split = cfg.DATA_CONFIG.DATA_SPLIT["test"]
    if args.teacher:
        return folder / "teacher" / split / args.eval_tag
    if args.eval_all:
        return folder / "eval_all_default" / args.eval_tag
    return folder / f"epoch_{epoch_of_checkpoint(args.ckpt)}" / split / args.eval_tag


def epoch_of_checkpoint(ckpt: str) -> str:
    """The last number in the path of a checkpoint, by which OpenPCDet names its result folders."""
    numbers = re.findall(r"\d+", ckpt)
    return numbers[-1] if numbers else "no_number"


def test_loader(run: Run) -> DataLoader:
    """The frames of DATA_SPLIT.test, in order.

    Each process loads its own batches of it later (``part_of``): a distributed sampler would repeat
    frames to give all processes the same number.
    """
    batch_size = batch_size_per_process(run.args, run.cfg, run.world)
    with errors_name_file(run.cfg):
        _, loader, _ = build_dataloader(
            run.cfg.DATA_CONFIG,
            run.cfg.CLASS_NAMES,
            batch_size,
            dist=False,
            root_dir=run.cfg.ROOT_DIR,
            workers=data_workers(run.args, run.world),
            seed=0,
            training=False,
            skip_bad_frames=run.args.skip_bad_frames,
            logger=run.logger,
        )
    return loader


def load_weights(run: Run, model: TrainableModule) -> None:
    """Load --ckpt completely; tensors missing in it may come from --pretrained_model."""
    args = run.args
    checkpoint = dict(load_checkpoint(args.ckpt))
    if args.pretrained_model is not None:
        weights = load_checkpoint(args.pretrained_model)["model_state"]
        known = model.checkpoint_state()["model_state"]
        fitting = {name: value for name, value in weights.items() if name in known}
        checkpoint["model_state"] = {**fitting, **checkpoint["model_state"]}
    where = str(args.ckpt)
    if args.teacher:
        where = f"{args.ckpt}, as the teacher of {args.cfg_file}"
    with naming_matching_yaml(checkpoint["model_state"], run.cfg):
        model.load_checkpoint_state(checkpoint, where)


def open_output(run: Run) -> None:
    """Create the result folder and its log. The input has been checked by now."""
    if run.world.is_main:
        stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
        open_log_file(run.logger, make_folder(run.folder) / f"log_eval_{stamp}.txt")
        run.logger.debug(f"arguments: {vars(run.args)}")
        run.logger.debug(f"environment: {environment()}\n{config_text(run.cfg)}")
    run.world.barrier()


def choose_threads(run: Run, model: nn.Module, loader: DataLoader) -> None:
    """On a CPU: the number of threads with which inference is fastest."""
    if run.device.type != "cpu" or len(loader) == 0:
        return

    def run_step(model: nn.Module, batch: BatchDict) -> None:
        predict_batch(model, batch, run.device)

    def make_batch() -> BatchDict:
        return first_batch(loader)

    tune_threads(model.eval(), run_step, make_batch, run.logger, run.world.cores_per_process)


def evaluate_all(run: Run, evaluator: Evaluator) -> None:
    """--eval_all: every checkpoint of --ckpt_dir that has not been evaluated yet."""
    args = run.args
    ckpt_dir = output_folder(run.cfg, args.extra_tag) / "ckpt"
    if args.ckpt_dir:
        ckpt_dir = Path(args.ckpt_dir)
    outcomes = evaluate_checkpoints(
        evaluator,
        ckpt_dir,
        run.folder,
        start_epoch=args.start_epoch,
        waiting_mins=args.max_waiting_mins,
    )
    if outcomes:
        return
    if not read_evaluated(evaluated_list(run.folder, run.test_split)):
        raise CheckpointError(
            f"--eval_all: no checkpoint_epoch_N.pth with N >= {args.start_epoch} in '{ckpt_dir}' "
            f"after waiting {args.max_waiting_mins} minutes"
        )
    run.logger.info(f"nothing new in {ckpt_dir}: all its checkpoints are listed in {run.folder}")


@exit_on_user_error
def main() -> None:
    """``python -m pcdet_distill.engine.evaluate``."""
    parser = argparse.ArgumentParser(
        prog="python -m pcdet_distill.engine.evaluate",
        description="Evaluate one checkpoint, all checkpoints of a training, or a teacher.",
    )
    run_testing(add_test_arguments(parser).parse_args())


if __name__ == "__main__":
    main()
