"""The training loop. It trains whatever speaks the detector's contract, and never asks what that is."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..checkpoint import save_checkpoint
from ..models import load_data_to_device
from ..models.trainable import TrainableModule
from .batches import TrainingBatches
from .checkpoints.files import LATEST, epoch_path, prune
from .checkpoints.state import make_checkpoint, restore_checkpoint, resume_iteration
from .distributed import World, wrap_model
from .logging.cost import Cost
from .logging.progress import Progress, check_finite
from .optimization import build_optimizer, build_schedule, loss_scale, set_rate


@dataclass(frozen=True)
class TrainOptions:
    """What the command line says about the loop."""

    epochs: int
    ckpt_dir: Path
    save_interval: int = 1  # epochs
    save_seconds: float = 300.0  # between two latest_model.pth
    keep: int = 30  # epoch checkpoints
    log_interval: int = 50  # iterations
    use_amp: bool = False


def _grad_scaler(enabled: bool, scale: float) -> Any:
    """Loss scaling for float16, ``scale`` at first; switched off it passes everything through."""
    if hasattr(torch.amp, "GradScaler"):  # since PyTorch 2.3
        return torch.amp.GradScaler("cuda", enabled=enabled, init_scale=scale)
    return torch.cuda.amp.GradScaler(enabled=enabled, init_scale=scale)


class Trainer:
    """One training run: ``resume`` (perhaps), then ``run``."""

    def __init__(
        self,
        model: TrainableModule,
        batches: TrainingBatches,
        optimization: Mapping[str, Any],
        options: TrainOptions,
        *,
        device: torch.device,
        world: World,
        seed: int,
    ) -> None:
        self.model, self.batches, self.options = model, batches, options
        self.device, self.world, self.seed = device, world, seed
        self.parallel_model = wrap_model(model, world, device)
        self.optimizer = build_optimizer(model, optimization)
        self.schedule = build_schedule(optimization, batches.per_epoch, options.epochs)
        self.scaler = _grad_scaler(options.use_amp, loss_scale(optimization))
        self.max_norm = optimization.get("GRAD_NORM_CLIP") or 0
        self.it = 0  # finished iterations since the first epoch
        self.init_cost = Cost()  # of DISTILL.INIT_STUDENT, before the first iteration
        self._loss: Any = 0.0  # of the last iteration
        self._saved_at = time.monotonic()

    def resume(self, checkpoint: dict[str, Any], where: str, logger: logging.Logger) -> None:
        """Go on where ``checkpoint`` was written."""
        restore_checkpoint(
            checkpoint,
            self.model,
            self.optimizer,
            self.scaler,
            world=self.world,
            where=where,
            logger=logger,
        )
        self.it = resume_iteration(checkpoint, self.batches.per_epoch, where, logger)

    def run(self, progress: Progress) -> None:
        """Train to the last epoch; write checkpoints on the way and always one at the end."""
        for epoch in range(self.it // self.batches.per_epoch, self.options.epochs):
            self._train_epoch(epoch, progress)
            if (epoch + 1) % self.options.save_interval == 0 or epoch + 1 == self.options.epochs:
                self._save(epoch_path(self.options.ckpt_dir, epoch + 1), progress)

    def _train_epoch(self, epoch: int, progress: Progress) -> None:
        """The batches of ``epoch`` that are still to come."""
        self.parallel_model.train()
        first = self.it - epoch * self.batches.per_epoch
        for batch in progress.watch(self.batches.epoch(epoch, first), epoch, first):
            self.model.set_progress(self.it / (self.options.epochs * self.batches.per_epoch))
            rate = self.schedule(self.it)
            set_rate(self.optimizer, rate)
            values, shown = self._step(batch)
            self.it += 1
            progress.step(self.it, rate[0], values, shown)
            if self._time_to_save():
                self._save(self.options.ckpt_dir / LATEST, progress)

    def _step(self, batch: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """One update of the weights. Gives the values to log and the names of those for the log line."""
        load_data_to_device(batch, self.device)
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", dtype=torch.float16, enabled=self.options.use_amp):
            ret, tb_dict, disp_dict = self.parallel_model(batch)
            loss = ret["loss"].mean()
        self.scaler.scale(loss).backward()
        self._loss = loss.detach()
        values = {**tb_dict, **disp_dict, "loss": self._loss}
        if self.max_norm > 0:
            self.scaler.unscale_(self.optimizer)
            values["grad_norm"] = nn.utils.clip_grad_norm_(self.model.parameters(), self.max_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.model.update_global_step()
        return values, ["loss", *(name for name in disp_dict if name != "loss")]

    def _time_to_save(self) -> bool:
        """Whether latest_model.pth is due: by rank 0's clock, asked at log intervals when there are more ranks."""
        if (
            self.world.size > 1
            and self.it % self.options.log_interval
            and self.options.save_seconds > 0
        ):
            return False
        return self.world.broadcast(time.monotonic() - self._saved_at >= self.options.save_seconds)

    def _save(self, path: Path, progress: Progress) -> None:
        """Write the state of now to ``path``, from rank 0."""
        check_finite(float(self._loss), self.it)
        progress.record_cost(self.it)
        state = make_checkpoint(
            self.model,
            self.optimizer,
            self.scaler,
            it=self.it,
            per_epoch=self.batches.per_epoch,
            seed=self.seed,
            world=self.world,
        )
        if self.world.is_main:
            save_checkpoint(state, path)
            prune(self.options.ckpt_dir, self.options.keep)
        self._saved_at = time.monotonic()
