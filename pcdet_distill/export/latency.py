"""How long a detector takes on one core: by runtime, and by stage of the road from points to boxes.

All calls take turns, and processor time is counted: what else the computer does changes little.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ..errors import ConfigError
from ..inference import Detector
from ..models import Detector3DTemplate
from ..types import BatchDict
from .boxes import final_boxes
from .exporter import Export, model_bytes
from .reference import network_inputs
from .runners import OnnxRuntimeRunner, OpenVinoRunner, Runner

ROUNDS = 10
WARM_UP = 2
GROUPING, SELECTION = "points to pillars", "score threshold and NMS"

Call = Callable[[], object]


class Times(NamedTuple):
    """Milliseconds of a call.

    Attributes:
        median: of the rounds.
        low, high: quartiles.
    """

    median: float
    low: float
    high: float


def measure_latency(detector: Detector, export: Export, batch: BatchDict) -> dict[str, float]:
    """Milliseconds of the network alone for one frame, by runtime; median of the rounds.

    Inputs are those of the network; NMS is left out, and a runtime that is not installed.
    """
    model = _model_of(detector)
    inputs = network_inputs(model, batch)
    calls: dict[str, Call] = {"torch": lambda: _forward(model, batch)}
    for name, runner in _runners(export).items():
        calls[name] = _bound(runner, inputs)
    with _one_thread():
        times = time_in_turns(calls)
    return {name: measured.median for name, measured in times.items()}


def measure_stages(
    detector: Detector, exports: Mapping[str, Export], clouds: Sequence[np.ndarray]
) -> dict[str, Times]:
    """Times of every stage of a frame, of the network for every export and runtime.

    Args:
        detector: of the checkpoint, on the CPU.
        exports: of that detector, by name, such as float and int8.
        clouds: points (N, C) of frames; every round measures the next one.
    """
    model = _model_of(detector)
    first = next(iter(exports.values()))
    batches = [detector.batch(points) for points in clouds]
    inputs = [network_inputs(model, batch) for batch in batches]
    outputs = [OnnxRuntimeRunner(first.model)(arrays) for arrays in inputs]
    turn = _Turn(len(clouds))
    calls: dict[str, Call] = {
        GROUPING: lambda: next(detector.items(clouds[turn.number])),
        "torch": lambda: _forward(model, batches[turn.number]),
    }
    for name, export in exports.items():
        for runtime, runner in _runners(export).items():
            calls[f"{runtime} {name}"] = _next_frame(runner, inputs, turn)
    calls[SELECTION] = lambda: final_boxes(outputs[turn.number], first.config)
    with _one_thread():
        return time_in_turns(calls, turn.advance)


def time_in_turns(calls: Mapping[str, Call], after_round: Call | None = None) -> dict[str, Times]:
    """The processor time of each call.

    Args:
        calls: by name; every round calls each once.
        after_round: called behind every round.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(WARM_UP + ROUNDS):
        for name, call in calls.items():
            start = time.process_time()
            call()
            elapsed_ms = 1000 * (time.process_time() - start)
            if number >= WARM_UP:
                times[name].append(elapsed_ms)
        if after_round is not None:
            after_round()
    return {name: _summary(values) for name, values in times.items()}


def stage_table(times: Mapping[str, Times]) -> str:
    """One line for each stage: median and quartiles in milliseconds."""
    width = max(len(name) for name in times)
    lines = [f"{'stage':<{width}}  median  quartiles (ms, one core)"]
    for name, measured in times.items():
        quartiles = f"{measured.low:.2f}..{measured.high:.2f}"
        lines.append(f"{name:<{width}}  {measured.median:>6.2f}  {quartiles}")
    return "\n".join(lines)


class _Turn:
    """The number of the cloud that this round measures."""

    def __init__(self, count: int) -> None:
        self.number = 0
        self.count = count

    def advance(self) -> None:
        self.number = (self.number + 1) % self.count


def _summary(values: Sequence[float]) -> Times:
    low, _, high = statistics.quantiles(values, n=4)
    return Times(statistics.median(values), low, high)


def _model_of(detector: Detector) -> Detector3DTemplate:
    model = detector.model
    assert isinstance(model, Detector3DTemplate)
    return model


def _bound(runner: Runner, inputs: dict[str, np.ndarray]) -> Call:
    return lambda: runner(inputs)


def _next_frame(runner: Runner, inputs: Sequence[dict[str, np.ndarray]], turn: _Turn) -> Call:
    return lambda: runner(inputs[turn.number])


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@torch.no_grad()
def _forward(model: Detector3DTemplate, batch: BatchDict) -> None:
    model.run_modules(dict(batch))


def _runners(export: Export) -> dict[str, Runner]:
    """onnxruntime, and OpenVINO where it is installed."""
    runners: dict[str, Runner] = {"onnxruntime": OnnxRuntimeRunner(export.model)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(model_bytes(export.model))
        try:
            runners["openvino"] = OpenVinoRunner(path)
        except ConfigError:
            return runners
    return runners
