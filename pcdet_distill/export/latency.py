"""How long a network takes on one core: torch, onnxruntime and OpenVINO, measured in turns."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from ..errors import ConfigError
from ..inference import Detector
from ..models import Detector3DTemplate
from ..types import BatchDict
from .exporter import Export, model_bytes
from .reference import network_inputs
from .runners import OnnxRuntimeRunner, OpenVinoRunner

ROUNDS = 10


def measure_latency(detector: Detector, export: Export, batch: BatchDict) -> dict[str, float]:
    """Milliseconds of the network alone for one frame, by runtime; median of the rounds.

    The runtimes take turns, and processor time is counted: what else the computer does changes
    little. Inputs are those of the network; NMS is left out, and a runtime that is not installed.
    """
    model = detector.model
    assert isinstance(model, Detector3DTemplate)
    inputs = network_inputs(model, batch)
    calls: dict[str, Callable[[], object]] = {"torch": lambda: _forward(model, batch)}
    onnx_runner = OnnxRuntimeRunner(export.model)
    calls["onnxruntime"] = lambda: onnx_runner(inputs)
    openvino_runner = _openvino(export)
    if openvino_runner is not None:
        calls["openvino"] = lambda: openvino_runner(inputs)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _in_turns(calls)
    finally:
        torch.set_num_threads(threads)


def _in_turns(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(ROUNDS):
        for name, call in calls.items():
            start = time.process_time()
            call()
            times[name].append(1000 * (time.process_time() - start))
    return {name: statistics.median(values) for name, values in times.items()}


@torch.no_grad()
def _forward(model: Detector3DTemplate, batch: BatchDict) -> None:
    model.run_modules(dict(batch))


def _openvino(export: Export) -> OpenVinoRunner | None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(model_bytes(export.model))
        try:
            return OpenVinoRunner(path)
        except ConfigError:
            return None
