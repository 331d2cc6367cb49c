"""What the user sees of a training: one line per interval, a bar on a terminal, one record in metrics.jsonl.

Losses are summed on the device and read once per interval: reading them at every step would make CUDA wait.
"""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from tqdm import tqdm

from ...errors import ConfigError
from .cost import CostMeter
from .metrics import MetricWriter, numbers
from .text import duration_text, rate_text, value_text

_END = object()


def check_finite(loss: float, it: int) -> None:
    """Stop when the loss is no longer a number: nothing after it would be either."""
    if not math.isfinite(loss):
        raise ConfigError(
            f"training: the loss became {loss} before iteration {it}; the checkpoints written so far are "
            "from before: lower OPTIMIZATION.LR or set OPTIMIZATION.GRAD_NORM_CLIP and start again"
        )


class Progress:
    """Timing and averages over the iterations since the last line."""

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
    ) -> None:
        self.logger, self.writer, self.cost = logger, writer, cost or CostMeter()
        self.epochs, self.per_epoch, self.interval = epochs, per_epoch, interval
        self.bar_only = bar_only
        self.gpu_stat = gpu_stat and torch.cuda.is_available()
        self.show_bar = writer is not None and (bar_only or sys.stderr.isatty())
        self._bar: tqdm | None = None
        self._reset()

    def _reset(self) -> None:
        """Begin a new interval."""
        self._sums: dict[str, Any] = {}
        self._count = 0
        self._data_s = 0.0
        self._since = time.perf_counter()

    def watch(self, batches: Iterable[Any], epoch: int, first: int) -> Iterator[Any]:
        """``batches``, timed and shown in a bar."""
        self._reset()
        if self.show_bar:
            self._bar = tqdm(
                total=self.per_epoch,
                initial=first,
                desc=f"epoch {epoch + 1}/{self.epochs}",
                leave=False,
                dynamic_ncols=True,
                mininterval=0.5 if sys.stderr.isatty() else 30,
            )
        iterator = iter(batches)
        try:
            while (batch := self._timed_next(iterator)) is not _END:
                yield batch
        finally:
            if self._bar is not None:
                self._bar.close()
                self._bar = None

    def _timed_next(self, iterator: Iterator[Any]) -> Any:
        start = time.perf_counter()
        batch = next(iterator, _END)
        self._data_s += time.perf_counter() - start
        return batch

    def step(self, it: int, lr: float, values: Mapping[str, Any], shown: Iterable[str]) -> None:
        """Count iteration ``it`` (the number of finished ones); ``shown`` names the values of the line."""
        self._count += 1
        for name, value in values.items():
            value = value.detach() if isinstance(value, torch.Tensor) else value
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        if self._bar is not None:
            self._bar.update()
        place = it - (it - 1) // self.per_epoch * self.per_epoch
        if place % self.interval == 0 or place == self.per_epoch:
            self._line(it, place, lr, list(shown))
            self._reset()

    def _line(self, it: int, place: int, lr: float, shown: list[str]) -> None:
        """Say and record the averages of the interval."""
        means = {name: value / self._count for name, value in numbers(self._sums).items()}
        check_finite(means.get("loss", 0.0), it)
        step_s = (time.perf_counter() - self._since) / self._count
        data_ms, step_ms = 1000 * self._data_s / self._count, 1000 * step_s
        epoch = (it - 1) // self.per_epoch + 1
        left = duration_text((self.epochs * self.per_epoch - it) * step_s)
        terms = "  ".join(f"{name} {value_text(means[name])}" for name in shown if name in means)
        text = (
            f"epoch {epoch}/{self.epochs}  it {place}/{self.per_epoch}  {terms}  lr {rate_text(lr)}  "
            f"data {data_ms:.0f} ms  step {step_ms:.0f} ms  eta {left}{self._gpu()}"
        )
        if self.bar_only and self._bar is not None:
            self._bar.set_postfix_str(f"{terms}  lr {rate_text(lr)}")
        else:
            self.logger.info(text)
        if self.writer is not None:
            curves = {f"train/{name}": value for name, value in means.items()}
            self.writer.write(
                "train",
                it,
                {"epoch": epoch, **means, "lr": lr, "data_ms": data_ms, "step_ms": step_ms},
                {**curves, "meta_data/learning_rate": lr},
            )

    def record_cost(self, it: int) -> None:
        """Note what the training up to iteration ``it`` took; before the checkpoint of that iteration is written."""
        if self.writer is not None:
            self.writer.write("cost", it, self.cost.values())

    def _gpu(self) -> str:
        """Peak memory of the GPU."""
        if not self.gpu_stat:
            return ""
        total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
        return f"  gpu {torch.cuda.max_memory_allocated() / 2**30:.1f}/{total / 2**30:.0f} GiB"
