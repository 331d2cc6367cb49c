"""The training loop, the same for every model that fulfils ``Trainable``."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..checkpoint import save_checkpoint
from ..errors import CheckpointError, ConfigError, StoppedBySignal
from ..models import load_data_to_device
from ..models.device import memory_explained
from ..models.trainable import TrainableModule
from ..types import BatchDict, ConfigDict
from .batches import TrainingBatches
from .checkpoints import (
    LATEST,
    FoundCheckpoint,
    epoch_path,
    make_checkpoint,
    prune,
    random_state,
    restore_checkpoint,
    resume_iteration,
)
from .distributed import StepGroup, World, without_exchange, wrap_model
from .logging import Cost, LogValues, Progress
from .loss_watch import MAX_SKIPPED_IN_A_ROW, REMEDY, LossWatch, NonFiniteStep, Step
from .optimization import amp_dtype, build_optimizer, build_schedule, loss_scale, set_rate
from .stopping import StopRequest

# A run that is stopped early should leave something: the first latest_model.pth does not wait for
# the whole --ckpt_save_time_interval.
FIRST_SAVE_SECONDS = 60.0
MEMORY_REMEDY = (
    "lower --batch_size (--accumulate keeps the frames of a step), or train with --use_amp"
)


@dataclass(frozen=True)
class TrainOptions:
    """Settings of the loop, from the command line.

    Attributes:
        epochs: epochs in all, those before an interruption included.
        ckpt_dir: folder of the checkpoints.
        save_interval: epochs between two checkpoints.
        save_seconds: seconds between two savings of latest_model.pth within an epoch.
        keep: number of epoch checkpoints that are kept.
        use_amp: mixed precision, of OPTIMIZATION.AMP_DTYPE.
        skip_nonfinite: leave out steps whose loss is not finite, in place of stopping.
    """

    epochs: int
    ckpt_dir: Path
    save_interval: int = 1
    save_seconds: float = 300.0
    keep: int = 30
    use_amp: bool = False
    skip_nonfinite: bool = False


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
        self.amp_dtype = amp_dtype(optimization)
        needs_scaling = options.use_amp and self.amp_dtype == torch.float16
        self.scaler = make_grad_scaler(needs_scaling, loss_scale(optimization))
        self.max_grad_norm = optimization.get("GRAD_NORM_CLIP") or 0
        self.iteration = 0  # finished iterations since the first epoch
        self.data_cost = Cost()  # of a teacher's predictions that were not stored yet
        self.init_cost = Cost()  # of DISTILL.INIT_STUDENT, before the first iteration
        self.step_group = StepGroup(world)
        self.loss_watch = LossWatch(model, self.step_group, device, skip=options.skip_nonfinite)
        self._resumed_from: Path | None = None
        self._saved_at = 0.0  # on the monotonic clock
        self._save_after_seconds = options.save_seconds
        self._save_requested = False

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
        self._resumed_from = checkpoint.path

    def run(self, progress: Progress, stop: StopRequest | None = None) -> None:
        """Train to the last epoch, or until a signal asks for an end.

        Checkpoints are written on the way, and one at the end. A signal ends the training after
        the current step, with a checkpoint and ``StoppedBySignal``.
        """
        stop = stop or StopRequest()
        per_epoch = self.batches.per_epoch
        self._start_save_clock(min(FIRST_SAVE_SECONDS, self.options.save_seconds))
        with stop.postponed():
            self._write_missing_epoch(progress)
            for epoch in range(self.iteration // per_epoch, self.options.epochs):
                self._train_epoch(epoch, progress, stop)
                if self._is_saved(epoch + 1):
                    self.save(epoch_path(self.options.ckpt_dir, epoch + 1), progress)
            (stopped,) = self.step_group.last_vote(stop.received is not None)
        if stopped:
            raise StoppedBySignal(f"{_by(stop)} after the last step: trained, but not evaluated")

    def _is_saved(self, epochs_done: int) -> bool:
        """Whether a checkpoint of its own is written after so many epochs."""
        is_last = epochs_done == self.options.epochs
        return is_last or epochs_done % self.options.save_interval == 0

    def _write_missing_epoch(self, progress: Progress) -> None:
        """Write the checkpoint of an epoch whose end only latest_model.pth has seen.

        A kill between the two leaves it so. The training would go on after that epoch, and its
        checkpoint, perhaps the last one of all, would never be there to evaluate.
        """
        if self._resumed_from != self.options.ckpt_dir / LATEST:
            return
        epochs_done, steps = divmod(self.iteration, self.batches.per_epoch)
        if steps or not self._is_saved(epochs_done):
            return
        path = epoch_path(self.options.ckpt_dir, epochs_done)
        if self.world.broadcast(not path.exists()):
            set_rate(self.optimizer, self.schedule(self.iteration - 1))  # of the step before
            self.save(path, progress)

    def _train_epoch(self, epoch: int, progress: Progress, stop: StopRequest) -> None:
        """The rest of an epoch, from ``self.iteration`` on."""
        self.parallel_model.train()
        # Above 0 only in the first epoch of a training that was resumed within it.
        first = self.iteration - epoch * self.batches.per_epoch
        iterations = self.batches.iterations(epoch, first)
        for batches in progress.watch(iterations, epoch, first):
            learning_rate = self.set_learning_rate()
            self.model.set_progress(self.iteration / self.num_iterations)
            values, shown = self._step_or_leave_out(batches, progress)
            self.iteration += 1
            progress.step(self.iteration, learning_rate, values, shown)
            stopped, save_is_due = self.step_group.vote(
                stop.received is not None, self._wants_to_save()
            )
            if stopped or save_is_due or self.options.save_seconds == 0:
                self.save(self.options.ckpt_dir / LATEST, progress)
            if stopped:
                self.world.barrier()
                raise StoppedBySignal(
                    f"{_by(stop)} after iteration {self.iteration} of {self.num_iterations}; "
                    f"{self.options.ckpt_dir / LATEST} is written, "
                    "and the same command goes on from there"
                )

    def set_learning_rate(self) -> float:
        """Set learning rate and momentum of the coming iteration; return the learning rate."""
        rate = self.schedule(self.iteration)
        set_rate(self.optimizer, rate)
        learning_rate, _ = rate
        return learning_rate

    def _step_or_leave_out(
        self, batches: Sequence[BatchDict], progress: Progress
    ) -> tuple[LogValues, list[str]]:
        """``train_step``, with nothing to record for a step that is left out."""
        frames = max(len(batch.get("frame_id", ())) or 1 for batch in batches)
        try:
            with memory_explained("training", frames, self.device, MEMORY_REMEDY):
                return self.train_step(batches)
        except NonFiniteStep as problem:
            self._leave_out(str(problem), progress)
            return {}, []

    def train_step(self, batches: Sequence[BatchDict]) -> tuple[LogValues, list[str]]:
        """Update the weights once; a NonFiniteStep leaves them as they are.

        The gradients of several batches are added up, each weighted by its share of the frames: so
        they are those of one large batch (but for norms, whose statistics are of each batch).

        Returns:
            The values to record, and the names of those that the log line shows.
        """
        self.optimizer.zero_grad(set_to_none=True)
        self.loss_watch.before_step()
        frames = [len(batch.get("frame_id", ())) or 1 for batch in batches]
        values: dict[str, Tensor | float] = {}
        shown: list[str] = []
        for number, batch in enumerate(batches):
            share = frames[number] / sum(frames)
            is_last = number == len(batches) - 1
            part, shown = self._add_gradients(batch, share, is_last)
            values = part if len(batches) == 1 else add_shares(values, part, share)
        if self.max_grad_norm > 0:
            norm = values["grad_norm"] = self._clip_gradients()
            if not self.scaler.is_enabled():  # there the scaler itself leaves such steps out
                self.loss_watch.see(self._step(values, batches), norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.loss_watch.step_done()
        self.model.update_global_step()
        return values, shown

    def _add_gradients(
        self, batch: BatchDict, share: float, is_last: bool
    ) -> tuple[dict[str, Tensor | float], list[str]]:
        """Forward and backward pass of one batch, which is ``share`` of the step's frames.

        Several processes exchange their gradients in the last backward pass of a step alone.
        """
        load_data_to_device(batch, self.device)
        exchange = nullcontext() if is_last else without_exchange(self.parallel_model)
        with exchange:
            with torch.autocast("cuda", dtype=self.amp_dtype, enabled=self.options.use_amp):
                ret_dict, tb_dict, disp_dict = self.parallel_model(batch)
                loss = ret_dict["loss"].mean()
            values = {**tb_dict, **disp_dict, "loss": loss.detach()}
            self.loss_watch.see(self._step(values, [batch]), loss.detach())
            # In float32 and bfloat16 the scaler is off and passes everything through.
            self.scaler.scale(loss if share == 1 else loss * share).backward()
        other_names = [name for name in disp_dict if name != "loss"]
        return values, ["loss", *other_names]

    def _step(self, values: LogValues, batches: Sequence[BatchDict]) -> Step:
        """What is known of the coming step, should it be a bad one."""
        names = [str(name) for batch in batches for name in batch.get("frame_id", ())]
        return Step(self.iteration + 1, values, names)

    def _leave_out(self, problem: str, progress: Progress) -> None:
        """Skip a step, or stop the training with the state before it in latest_model.pth."""
        if self.options.skip_nonfinite and self.loss_watch.skipped_in_a_row < MAX_SKIPPED_IN_A_ROW:
            progress.logger.warning(f"step left out: {problem}")
            return
        where = "the checkpoints are from before it"
        try:
            self.save(self.options.ckpt_dir / LATEST, progress)
            where = f"the state before it is in {self.options.ckpt_dir / LATEST}"
        except CheckpointError:
            pass  # earlier steps were bad already; the file of before stays
        raise ConfigError(f"training: {problem}; {where}; {REMEDY}")

    def _clip_gradients(self) -> Tensor:
        """Scale the gradients down to GRAD_NORM_CLIP; return their norm before."""
        self.scaler.unscale_(self.optimizer)
        return nn.utils.clip_grad_norm_(self.model.parameters(), self.max_grad_norm)

    def _wants_to_save(self) -> bool:
        """Whether rank 0 asks for latest_model.pth, by its clock; once for each saving."""
        passed = time.monotonic() - self._saved_at
        is_due = self.world.is_main and passed >= self._save_after_seconds
        if not is_due or self._save_requested:
            return False
        self._save_requested = True
        return True

    def save(self, path: Path, progress: Progress) -> None:
        """Write a checkpoint to ``path``, from rank 0. Every process must call this method."""
        self.loss_watch.check()
        # Written before the checkpoint: a resumed training reads the cost up to its iteration.
        progress.record_cost(self.iteration)
        checkpoint = make_checkpoint(
            model=self.model,
            optimizer=self.optimizer,
            scaler=self.scaler,
            iteration=self.iteration,
            per_epoch=self.batches.per_epoch,
            seed=self.seed,
            random_states=self.step_group.gather(random_state()),
        )
        if self.world.is_main:
            save_checkpoint(checkpoint, path)
            prune(self.options.ckpt_dir, self.options.keep)
        self._start_save_clock(self.options.save_seconds)

    def _start_save_clock(self, seconds: float) -> None:
        """Let latest_model.pth be due in ``seconds`` from now."""
        self._saved_at = time.monotonic()
        self._save_after_seconds = seconds
        self._save_requested = False


def add_shares(
    total: Mapping[str, Tensor | float], part: Mapping[str, Tensor | float], share: float
) -> dict[str, Tensor | float]:
    """``total`` plus the values of one batch, weighted by its share; what is no number stays."""
    added = dict(total)
    for name, value in part.items():
        if isinstance(value, Tensor) and value.numel() != 1:
            added[name] = value
        else:
            added[name] = added.get(name, 0.0) + share * value
    return added


def make_grad_scaler(enabled: bool, scale: float) -> torch.amp.GradScaler:
    """Loss scaling for float16 gradients, ``scale`` at first."""
    return torch.amp.GradScaler("cuda", enabled=enabled, init_scale=scale)


def _by(stop: StopRequest) -> str:
    """Which signal stopped the run; another process may have received it."""
    name = stop.received.name if stop.received is not None else "a signal to another process"
    return f"stopped by {name}"
