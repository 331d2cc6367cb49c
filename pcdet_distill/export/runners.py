"""Runners: an exported network in onnxruntime or OpenVINO, called with arrays by name."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..extras import import_extra
from .boxes import Arrays

if TYPE_CHECKING:
    import onnx

# onnxruntime's level of log messages. What goes wrong is raised as an exception all the same.
FATAL_ONLY = 4


class Runner(Protocol):
    """A network that runs."""

    def __call__(self, inputs: Arrays) -> Arrays:
        """The outputs of one frame, by name."""


class OnnxRuntimeRunner:
    """A network in onnxruntime, on the CPU.

    Args:
        model: the network, or its file.
        threads: 0 for one each core.
    """

    def __init__(self, model: onnx.ModelProto | str | Path, threads: int = 1) -> None:
        runtime = import_extra("onnxruntime", needed_by="export")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = FATAL_ONLY
        source = str(model) if isinstance(model, (str, Path)) else model.SerializeToString()
        self.session = runtime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        self.output_names = [output.name for output in self.session.get_outputs()]

    def __call__(self, inputs: Arrays) -> Arrays:
        """The outputs of one frame, by name."""
        return dict(zip(self.output_names, self.session.run(self.output_names, inputs)))


@functools.cache
def openvino_core(openvino: Any) -> Any:
    """OpenVINO's core, one for the process.

    Each core's CPU plugin installs a stack for signal handlers, and takes it away when it is
    freed. Two cores freed in the order of their making leave the process without one, and its
    next signal, such as the end of a data worker, kills it.
    """
    return openvino.Core()


class OpenVinoRunner:
    """A network in OpenVINO, on the CPU, in full precision.

    Args:
        path: of the network.
        threads: 0 for one each core.
    """

    def __init__(self, path: str | Path, threads: int = 1) -> None:
        core = openvino_core(import_extra("openvino", needed_by="OpenVINO's runtime"))
        settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        if threads:
            settings["INFERENCE_NUM_THREADS"] = str(threads)
        network = core.read_model(str(path))
        self.model = core.compile_model(network, "CPU", settings)
        # The compiled network does not know every name, so outputs are found by their places.
        self.output_names = [output.get_any_name() for output in network.outputs]

    def __call__(self, inputs: Arrays) -> Arrays:
        """The outputs of one frame, by name."""
        results = self.model(inputs)
        return {name: results[place].copy() for place, name in enumerate(self.output_names)}
