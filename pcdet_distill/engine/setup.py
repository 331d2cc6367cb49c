"""From the command line and the config to a Trainer, new or where it was interrupted."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from ..config import errors_name_file
from ..datasets import DatasetTemplate
from ..errors import ConfigError
from ..models import load_data_to_device
from ..models.device import prepare_for_device
from ..models.trainable import TrainableModule
from ..seeds import draw_seed
from ..types import BatchDict
from .batches import TrainingBatches
from .build import build_dataloader, build_trained_model
from .checkpoints import FoundCheckpoint, find_newest, read_with_optimizer, seed_everything
from .cli.settings import batch_size_per_process, data_workers, number_of_epochs, requested_seed
from .data_check import report_doubts
from .distributed import share_batch_norm
from .logging import Cost, CostMeter
from .loop import Trainer, TrainOptions
from .resources import tune_threads
from .resources.threads import user_variable
from .run import Run


def build_trainer(run: Run) -> Trainer:
    """Build model, data and optimizer, and restore an interrupted training. Writes no file."""
    checkpoint = find_checkpoint(run)
    options = train_options(run)
    seed = choose_seed(run, checkpoint)
    seed_everything(seed + run.world.rank)
    batches = build_batches(run, options.epochs, seed)
    disable_late_augmentations(run, batches.dataset, options.epochs)
    model = model_to_train(run, batches)
    with errors_name_file(run.cfg):
        meter = CostMeter()
        model.prepare_data(run.world, run.logger)
        data_cost = meter.read()
        init_cost = Cost()
        if checkpoint is None:
            init_cost = prepare_new_training(run, model, batches)
        trainer = Trainer(
            model,
            batches,
            run.cfg.OPTIMIZATION,
            options,
            device=run.device,
            world=run.world,
            seed=seed,
        )
    trainer.init_cost = init_cost
    trainer.data_cost = data_cost
    choose_threads(run, trainer, checkpoint)
    if checkpoint is not None:
        resume(run, trainer, checkpoint)
    return trainer


def model_to_train(run: Run, batches: TrainingBatches) -> TrainableModule:
    """The detector, or the Distiller around it, on the device of the run."""
    model = build_trained_model(
        run.cfg,
        batches.dataset,
        pretrained_model=run.args.pretrained_model,
        teacher_ckpt=run.args.teacher_ckpt,
        logger=run.logger,
    )
    if run.args.sync_bn:
        model = share_batch_norm(model, run.world, run.device)
    return prepare_for_device(model, run.device).train()


def resume(run: Run, trainer: Trainer, checkpoint: FoundCheckpoint) -> None:
    """Continue an interrupted training."""
    trainer.resume(checkpoint, run.logger)
    run.logger.info(
        f"resumed from {checkpoint.path}: {trainer.iteration} iterations of "
        f"{trainer.num_iterations} are done"
    )


def find_checkpoint(run: Run) -> FoundCheckpoint | None:
    """The checkpoint to resume: ``--ckpt``, else the newest in ``ckpt/``, else None."""
    if run.args.ckpt is not None:
        return read_with_optimizer(Path(run.args.ckpt))
    # Rank 0 decides, and the other processes read the same file.
    newest = find_newest(run.folder / "ckpt", run.logger) if run.world.is_main else None
    path = run.world.broadcast(newest.path if newest else None)
    if path is None or newest is not None:
        return newest
    return read_with_optimizer(path)


def train_options(run: Run) -> TrainOptions:
    """Settings of the loop, from the command line and the config."""
    args = run.args
    on_cuda = run.device.type == "cuda"
    use_amp = args.use_amp or bool(run.cfg.OPTIMIZATION.get("USE_AMP", False))
    if use_amp and not on_cuda:
        run.logger.warning("mixed precision is for CUDA; on this CPU training runs in float32")
    return TrainOptions(
        epochs=number_of_epochs(args, run.cfg),
        ckpt_dir=run.folder / "ckpt",
        save_interval=args.ckpt_save_interval,
        save_seconds=args.ckpt_save_time_interval,
        keep=args.max_ckpt_save_num,
        use_amp=use_amp and on_cuda,
        skip_nonfinite=args.on_nan == "skip",
    )


def choose_seed(run: Run, checkpoint: FoundCheckpoint | None) -> int:
    """The seed of the command line, else that of the interrupted training, else a random one.

    A seed of the command line also makes cuDNN deterministic.
    """
    stored = checkpoint.state.get("seed") if checkpoint is not None else None
    requested = requested_seed(run.args)
    if requested is not None:
        if checkpoint is not None and run.args.seed is not None:
            _refuse_other_seed(checkpoint, stored, requested)
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
        return requested
    if stored is not None:
        run.logger.info(f"random seed: {stored} (as before the interruption)")
        return stored
    seed = run.world.broadcast(draw_seed())
    run.logger.info(f"random seed: {seed}")
    return seed


def _refuse_other_seed(checkpoint: FoundCheckpoint, stored: int | None, requested: int) -> None:
    """A training is not resumed with another seed: its data order would change half-way."""
    if stored not in (None, requested):
        raise ConfigError(
            f"--seed {requested}: the training to resume, {checkpoint.path}, has seed {stored}; "
            "give that one or choose another --extra_tag"
        )


def build_batches(run: Run, epochs: int, seed: int) -> TrainingBatches:
    """The batches of the training split."""
    merged = run.args.merge_all_iters_to_one_epoch
    batch_size = batch_size_per_process(run.args, run.cfg, run.world)
    with errors_name_file(run.cfg):
        _, loader, sampler = build_dataloader(
            run.cfg.DATA_CONFIG,
            run.cfg.CLASS_NAMES,
            batch_size,
            dist=run.world.size > 1,
            root_dir=run.cfg.ROOT_DIR,
            workers=data_workers(run.args, run.world),
            seed=seed,
            training=True,
            merge_all_iters_to_one_epoch=merged,
            total_epochs=epochs,
            skip_bad_frames=run.args.skip_bad_frames,
            logger=run.logger,
        )
    return TrainingBatches(loader, sampler, epochs if merged else 1, run.args.accumulate)


def disable_late_augmentations(run: Run, dataset: DatasetTemplate, epochs: int) -> None:
    """HOOK.DisableAugmentationHook: train the last NUM_LAST_EPOCHS epochs without those it lists.

    Pasted objects help at first, but the scenes they make are not realistic. So detectors such as
    CenterPoint end their training on scenes as recorded.
    """
    hook = (run.cfg.get("HOOK") or {}).get("DisableAugmentationHook")
    if not hook:
        return
    if run.args.merge_all_iters_to_one_epoch:
        raise ConfigError(
            "--merge_all_iters_to_one_epoch: HOOK.DisableAugmentationHook counts epochs, and "
            "merged there is only one; leave one of the two out"
        )
    first_epoch = max(epochs - hook.NUM_LAST_EPOCHS, 0)
    dataset.disable_augmentations(hook.DISABLE_AUG_LIST, first_epoch)
    run.logger.info(
        f"from epoch {first_epoch + 1} on without the augmentations "
        f"{', '.join(hook.DISABLE_AUG_LIST)}"
    )


def prepare_new_training(run: Run, model: TrainableModule, batches: TrainingBatches) -> Cost:
    """Report doubts about the data, let the model check it and set its first weights.

    Returns the cost of the latter. Rank 0 does all of it. DistributedDataParallel broadcasts its
    weights when it wraps the model.
    """
    if run.world.is_main:
        report_doubts(batches.dataset, run.logger)
        model.check_before_training(batches, run.logger)
    meter = CostMeter()
    if run.world.is_main and run.args.pretrained_model is None:
        model.init_before_training(batches, run.logger)
    return meter.read()


def choose_threads(run: Run, trainer: Trainer, checkpoint: FoundCheckpoint | None) -> None:
    """On a CPU: as many threads as before the interruption, else the fastest number."""
    if run.device.type != "cpu":
        return
    most = run.world.cores_per_process
    before = checkpoint.state.get("threads") if checkpoint is not None else None
    if before and before <= most and user_variable() is None:
        torch.set_num_threads(before)
        run.logger.info(f"CPU threads: {before} (as before the interruption)")
        return

    def run_step(model: nn.Module, batch: BatchDict) -> None:
        load_data_to_device(batch, run.device)
        model(batch)[0]["loss"].mean().backward()

    threads = tune_threads(trainer.model, run_step, trainer.batches.sample, run.logger, most)
    torch.set_num_threads(run.world.broadcast(threads))
