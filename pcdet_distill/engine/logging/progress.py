"""Progress of a training: a log line, a record of metrics.jsonl, and a bar on a terminal.

A line is due after the first iteration, which shows that the training works. Then one comes every
``interval`` iterations, at the end of an epoch, and when there was none for ``LINE_SECONDS``.
Losses are summed on the device and read once a line: reading them at every step would make CUDA
wait.
"""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor
from tqdm import tqdm

from .cost import CostMeter
from .metrics import LogValues, MetricWriter, numbers
from .text import duration_text, rate_text, value_text

T = TypeVar("T")

LINE_SECONDS = 30.0


class Progress:
    """Times the steps and reports the averages since the last line.

    Args:
        logger: receives the lines.
        writer: receives the same numbers; None in all but the main process.
        epochs: epochs of the whole training.
        per_epoch: iterations of an epoch.
        interval: iterations between two lines.
        bar_only: show the losses in the bar, and log no lines.
        gpu_stat: end a line with the peak memory of the GPU.
        cost: time of the whole training.
        check: called before a line is written; it may look at the loss.
    """

    def __init__(
        self,
        logger: logging.Logger,
        writer: MetricWriter | None,
        *,
        epochs: int,
        per_epoch: int,
        interval: int,
        bar_only: bool = False,
        gpu_stat: bool = True,
        cost: CostMeter | None = None,
        check: Callable[[], None] | None = None,
    ) -> None:
        self.logger = logger
        self.writer = writer
        self.epochs = epochs
        self.per_epoch = per_epoch
        self.interval = interval
        self.bar_only = bar_only
        self.gpu_stat = gpu_stat and torch.cuda.is_available()
        self.cost = cost or CostMeter()
        self.check = check
        self.show_bar = writer is not None and (bar_only or sys.stderr.isatty())
        self._bar: tqdm | None = None
        self._line_due_at = -math.inf  # the first line comes after the first iteration
        self._start_interval()

    def watch(self, batches: Iterable[T], epoch: int, first: int) -> Iterator[T]:
        """The same batches, timed and counted in a bar.

        Args:
            batches: those of ``epoch`` from number ``first`` on.
        """
        self._start_interval()
        if self.show_bar:
            self._bar = tqdm(
                total=self.per_epoch,
                initial=first,
                desc=f"epoch {epoch + 1}/{self.epochs}",
                leave=False,
                dynamic_ncols=True,
                mininterval=0.5 if sys.stderr.isatty() else 30,
            )
        try:
            yield from self._timed(batches)
        finally:
            if self._bar is not None:
                self._bar.close()
                self._bar = None

    def _timed(self, batches: Iterable[T]) -> Iterator[T]:
        """The same batches; ``_data_s`` sums the seconds spent waiting for them."""
        iterator = iter(batches)
        while True:
            start = time.perf_counter()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self._data_s += time.perf_counter() - start
            yield batch

    def step(
        self, iteration: int, learning_rate: float, values: LogValues, shown: Sequence[str]
    ) -> None:
        """Count one step.

        Args:
            iteration: number of finished iterations since the first epoch.
            values: what to average and record; empty for a step that was left out.
            shown: names of the values in the log line.
        """
        self._count += 1 if values else 0
        for name, value in values.items():
            if isinstance(value, Tensor):
                value = value.detach()
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        if self._bar is not None:
            self._bar.update()
        if self._line_is_due(iteration):
            self._report(iteration, learning_rate, shown)
            self._start_interval()
            self._line_due_at = self._interval_start + LINE_SECONDS

    def _start_interval(self) -> None:
        """Reset the sums."""
        self._sums: dict[str, Tensor | float] = {}
        self._count = 0
        self._data_s = 0.0
        self._interval_start = time.perf_counter()

    def _line_is_due(self, iteration: int) -> bool:
        """Whether a line is due after ``iteration``."""
        place = self._place_in_epoch(iteration)
        if place % self.interval == 0 or place == self.per_epoch:
            return True
        return time.perf_counter() >= self._line_due_at

    def _place_in_epoch(self, iteration: int) -> int:
        """Number of the iteration in its epoch, from 1."""
        return (iteration - 1) % self.per_epoch + 1

    def _report(self, iteration: int, learning_rate: float, shown: Sequence[str]) -> None:
        """Log and record the averages of the interval."""
        if self.check is not None:
            self.check()
        count = max(self._count, 1)
        means = {name: total / count for name, total in numbers(self._sums).items()}
        data_ms = 1000 * self._data_s / count
        step_ms = 1000 * (time.perf_counter() - self._interval_start) / count
        terms = [f"{name} {value_text(means[name])}" for name in shown if name in means]
        losses_and_rate = f"{'  '.join(terms)}  lr {rate_text(learning_rate)}"
        if self.bar_only and self._bar is not None:
            self._bar.set_postfix_str(losses_and_rate)
        else:
            remaining = self.epochs * self.per_epoch - iteration
            self.logger.info(
                f"epoch {self._epoch(iteration)}/{self.epochs}  "
                f"it {self._place_in_epoch(iteration)}/{self.per_epoch}  {losses_and_rate}  "
                f"data {data_ms:.0f} ms  step {step_ms:.0f} ms  "
                f"eta {duration_text(remaining * step_ms / 1000)}{self._gpu_text()}"
            )
        if self.writer is not None:
            record = {"epoch": self._epoch(iteration), **means, "lr": learning_rate}
            times = {"data_ms": data_ms, "step_ms": step_ms}
            curves = {f"train/{name}": value for name, value in means.items()}
            curves["meta_data/learning_rate"] = learning_rate
            self.writer.write("train", iteration, {**record, **times}, curves)

    def _epoch(self, iteration: int) -> int:
        """The epoch of an iteration, from 1."""
        return (iteration - 1) // self.per_epoch + 1

    def record_cost(self, iteration: int) -> None:
        """Record the cost up to ``iteration``."""
        if self.writer is not None:
            self.writer.write("cost", iteration, self.cost.values())

    def _gpu_text(self) -> str:
        """Peak memory of the GPU."""
        if not self.gpu_stat:
            return ""
        device = torch.cuda.current_device()
        total_gib = torch.cuda.get_device_properties(device).total_memory / 2**30
        used_gib = torch.cuda.max_memory_allocated() / 2**30
        return f"  gpu {used_gib:.1f}/{total_gib:.0f} GiB"
