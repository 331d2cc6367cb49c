"""The training loop, the same for every model that fulfils ``Trainable``."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..checkpoint import save_checkpoint
from ..models import load_data_to_device
from ..models.trainable import TrainableModule
from ..types import BatchDict, ConfigDict
from .batches import TrainingBatches
from .checkpoints import (
    LATEST,
    FoundCheckpoint,
    epoch_path,
    make_checkpoint,
    prune,
    restore_checkpoint,
    resume_iteration,
)
from .distributed import World, wrap_model
from .logging import Cost, LogValues, Progress, check_finite
from .optimization import build_optimizer, build_schedule, loss_scale, set_rate

# A run that is stopped early should leave something: the first latest_model.pth does not wait for
# the whole --ckpt_save_time_interval.
FIRST_SAVE_SECONDS = 60.0


@dataclass(frozen=True)
class TrainOptions:
    """Settings of the loop, from the command line.

    Attributes:
        epochs: epochs in all, those before an interruption included.
        ckpt_dir: folder of the checkpoints.
        save_interval: epochs between two checkpoints.
        save_seconds: seconds between two savings of latest_model.pth within an epoch.
        keep: number of epoch checkpoints that are kept.
        log_interval: iterations between two log lines.
        use_amp: float16 mixed precision.
    """

    epochs: int
    ckpt_dir: Path
    save_interval: int = 1
    save_seconds: float = 300.0
    keep: int = 30
    log_interval: int = 50
    use_amp: bool = False


class Trainer:
    """One training: build it, ``resume`` it if it was interrupted, then ``run`` it.

    Args:
        model: on ``device`` already.
        batches: the batches of this process.
        optimization: the OPTIMIZATION block.
        options: settings of the loop.
        device: where the batches go.
        world: the processes that train together.
        seed: stored in the checkpoints.
    """

    def __init__(
        self,
        model: TrainableModule,
        batches: TrainingBatches,
        optimization: ConfigDict,
        options: TrainOptions,
        *,
        device: torch.device,
        world: World,
        seed: int,
    ) -> None:
        self.model = model
        self.batches = batches
        self.options = options
        self.device = device
        self.world = world
        self.seed = seed
        self.parallel_model = wrap_model(model, world, device)
        self.optimizer = build_optimizer(model, optimization)
        self.schedule = build_schedule(optimization, batches.per_epoch, options.epochs)
        self.scaler = make_grad_scaler(options.use_amp, loss_scale(optimization))
        self.max_grad_norm = optimization.get("GRAD_NORM_CLIP") or 0
        self.iteration = 0  # finished iterations since the first epoch
        self.data_cost = Cost()  # of a teacher's predictions that were not stored yet
        self.init_cost = Cost()  # of DISTILL.INIT_STUDENT, before the first iteration
        self._last_loss = torch.zeros(())
        self._saved_at = 0.0  # on the monotonic clock
        self._save_after_seconds = options.save_seconds

    @property
    def num_iterations(self) -> int:
        """Iterations of the whole training."""
        return self.options.epochs * self.batches.per_epoch

    def resume(self, checkpoint: FoundCheckpoint, logger: logging.Logger) -> None:
        """Continue where ``checkpoint`` was written."""
        restore_checkpoint(
            checkpoint,
            model=self.model,
            optimizer=self.optimizer,
            scaler=self.scaler,
            world=self.world,
            logger=logger,
        )
        self.iteration = resume_iteration(checkpoint, self.batches.per_epoch, logger)

    def run(self, progress: Progress) -> None:
        """Train to the last epoch. Checkpoints are written on the way, and one at the end."""
        per_epoch = self.batches.per_epoch
        self._start_save_clock(min(FIRST_SAVE_SECONDS, self.options.save_seconds))
        for epoch in range(self.iteration // per_epoch, self.options.epochs):
            self.parallel_model.train()
            # Above 0 only in the first epoch of a training that was resumed within it.
            first = self.iteration - epoch * per_epoch
            for batch in progress.watch(self.batches.epoch(epoch, first), epoch, first):
                learning_rate = self.set_learning_rate()
                self.model.set_progress(self.iteration / self.num_iterations)
                values, shown = self.train_step(batch)
                self.iteration += 1
                progress.step(self.iteration, learning_rate, values, shown)
                if self.latest_is_due():
                    self.save(self.options.ckpt_dir / LATEST, progress)
            epochs_done = epoch + 1
            is_last = epochs_done == self.options.epochs
            if is_last or epochs_done % self.options.save_interval == 0:
                self.save(epoch_path(self.options.ckpt_dir, epochs_done), progress)

    def set_learning_rate(self) -> float:
        """Set learning rate and momentum of the coming iteration; return the learning rate."""
        rate = self.schedule(self.iteration)
        set_rate(self.optimizer, rate)
        learning_rate, _ = rate
        return learning_rate

    def train_step(self, batch: BatchDict) -> tuple[LogValues, list[str]]:
        """Update the weights once.

        Returns:
            The values to record, and the names of those that the log line shows.
        """
        load_data_to_device(batch, self.device)
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", dtype=torch.float16, enabled=self.options.use_amp):
            ret_dict, tb_dict, disp_dict = self.parallel_model(batch)
            loss = ret_dict["loss"].mean()
        # Without mixed precision the scaler is off and passes everything through.
        self.scaler.scale(loss).backward()
        self._last_loss = loss.detach()
        values = {**tb_dict, **disp_dict, "loss": self._last_loss}
        if self.max_grad_norm > 0:
            values["grad_norm"] = self._clip_gradients()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.model.update_global_step()
        other_names = [name for name in disp_dict if name != "loss"]
        return values, ["loss", *other_names]

    def _clip_gradients(self) -> Tensor:
        """Scale the gradients down to GRAD_NORM_CLIP; return their norm before."""
        self.scaler.unscale_(self.optimizer)
        return nn.utils.clip_grad_norm_(self.model.parameters(), self.max_grad_norm)

    def latest_is_due(self) -> bool:
        """Whether latest_model.pth is to be written now, by the clock of rank 0.

        All processes must decide alike. On CUDA the broadcast makes the device wait, so several
        GPUs check the clock at log intervals only.
        """
        several_gpus = self.world.size > 1 and self.device.type == "cuda"
        between_log_lines = self.iteration % self.options.log_interval != 0
        if several_gpus and between_log_lines and self.options.save_seconds > 0:
            return False
        passed = time.monotonic() - self._saved_at
        return self.world.broadcast(passed >= self._save_after_seconds)

    def save(self, path: Path, progress: Progress) -> None:
        """Write a checkpoint to ``path``, from rank 0. Every process must call this method."""
        check_finite(float(self._last_loss), self.iteration)
        # Written before the checkpoint: a resumed training reads the cost up to its iteration.
        progress.record_cost(self.iteration)
        checkpoint = make_checkpoint(
            model=self.model,
            optimizer=self.optimizer,
            scaler=self.scaler,
            iteration=self.iteration,
            per_epoch=self.batches.per_epoch,
            seed=self.seed,
            world=self.world,
        )
        if self.world.is_main:
            save_checkpoint(checkpoint, path)
            prune(self.options.ckpt_dir, self.options.keep)
        self._start_save_clock(self.options.save_seconds)

    def _start_save_clock(self, seconds: float) -> None:
        """Let latest_model.pth be due in ``seconds`` from now."""
        self._saved_at = time.monotonic()
        self._save_after_seconds = seconds


def make_grad_scaler(enabled: bool, scale: float) -> torch.amp.GradScaler:
    """Loss scaling for float16 gradients, ``scale`` at first."""
    return torch.amp.GradScaler("cuda", enabled=enabled, init_scale=scale)
