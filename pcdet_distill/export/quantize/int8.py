"""A network with int8 convolutions: ranges from calibration frames, then QDQ nodes.

QuantizeLinear and DequantizeLinear stand around every int8 convolution. onnxruntime and OpenVINO
fuse them with it. Weights have a range for every output channel, activations one for a tensor. Only
the convolutions are int8: the pillar encoder reads metres of 70 and offsets of 0.1 side by side,
which one range cannot hold.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...extras import import_extra
from ..boxes import Arrays
from .dense import dense_part, maps_of_frames
from .editing import Editable
from .options import METHODS
from .predictions import (
    Candidates,
    ChannelSteps,
    dequantize_steps,
    measure_steps,
    prediction_tensors,
    scale_to_steps,
)
from .scatter import scatter_in_int8
from .upsampling import replace_transposed_convolutions

if TYPE_CHECKING:
    import onnx

# Operators that hand on int8 values as they are, between the convolutions.
PASSING = ("Relu", "Concat", "Reshape", "Transpose")


@dataclasses.dataclass(frozen=True)
class Calibrated:
    """A network ready to be quantised.

    Attributes:
        model: in float, without transposed convolutions, predictions in steps.
        ranges: of its tensors, as onnxruntime's quantiser reads them.
        steps: of the predictions.
        layers: names of the convolutions, in their order.
    """

    model: onnx.ModelProto
    ranges: Any
    steps: dict[str, ChannelSteps]
    layers: tuple[str, ...]


def calibrate(
    model: onnx.ModelProto,
    frames: Sequence[Arrays],
    *,
    method: str,
    percentile: float,
    candidates: Candidates,
) -> Calibrated:
    """Measure the ranges of all tensors on calibration frames.

    Args:
        model: the network in float.
        frames: inputs of the frames.
        method: of ``METHODS``: the whole range; the one whose int8 histogram has the lowest
            entropy relative to the float one; or a percentile.
        percentile: of the values inside the range.
        candidates: which predictions can become boxes.
    """
    model = replace_transposed_convolutions(model)
    predictions = prediction_tensors(model)
    steps = measure_steps(model, predictions, frames, candidates)
    model = scale_to_steps(model, steps)
    dense = dense_part(model, [f"{name}.steps" for name in predictions])
    maps = maps_of_frames(model, frames)
    layers = tuple(node.output[0] for node in model.graph.node if node.op_type == "Conv")
    ranges = _measure_ranges(dense, maps, METHODS[method], percentile)
    return Calibrated(model, ranges, steps, layers)


def _measure_ranges(
    model: onnx.ModelProto, frames: Sequence[Arrays], method: str, percentile: float
) -> Any:
    quantization = import_extra("onnxruntime.quantization", needed_by="export")
    calibration = import_extra("onnxruntime.quantization.calibrate", needed_by="export")
    options = {"percentile": percentile, "symmetric": False}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        file.write_bytes(model.SerializeToString())
        calibrator = calibration.create_calibrator(
            str(file),
            ["Conv", *PASSING],
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
            calibrate_method=getattr(quantization.CalibrationMethod, method),
            extra_options=options,
        )
        # The calibrators print what they do.
        with contextlib.redirect_stdout(io.StringIO()):
            calibrator.collect_data(_Frames(frames))
            return calibrator.compute_data()


class _Frames:
    """The reader that onnxruntime's calibrators ask for frames."""

    def __init__(self, frames: Sequence[Arrays]) -> None:
        self._frames = iter(frames)

    def get_next(self) -> Arrays | None:
        """The next frame, None behind the last."""
        return next(self._frames, None)


def quantize(calibrated: Calibrated, in_float: Collection[str] = ()) -> onnx.ModelProto:
    """The network with int8 convolutions.

    Args:
        calibrated: of ``calibrate``.
        in_float: names of the layers that stay in float.
    """
    quantization = import_extra("onnxruntime.quantization", needed_by="export")
    module = import_extra("onnxruntime.quantization.qdq_quantizer", needed_by="export")
    model = type(calibrated.model)()
    model.CopyFrom(calibrated.model)
    nodes = _nodes(calibrated, in_float)
    if not nodes:
        return model  # the quantiser takes an empty list for all nodes
    quantizer = module.QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=False,
        weight_qType=quantization.QuantType.QInt8,
        # With unsigned activations and signed weights x86 has its fastest instructions (VNNI).
        activation_qType=quantization.QuantType.QUInt8,
        tensors_range=calibrated.ranges,
        nodes_to_quantize=nodes,
        nodes_to_exclude=[],
        op_types_to_quantize=["Conv", *PASSING],
        extra_options={"TensorQuantOverrides": _overrides(calibrated, in_float)},
    )
    quantizer.quantize_model()
    quantized = dequantize_steps(quantizer.model.model, calibrated.steps)
    return scatter_in_int8(quantized)


def _nodes(calibrated: Calibrated, in_float: Collection[str]) -> list[str]:
    """Names of the nodes that become int8: convolutions, and what passes their values on."""
    editable = Editable(calibrated.model)
    names = []
    reached = set()
    for node in editable.nodes:
        is_layer = node.op_type == "Conv" and node.output[0] not in in_float
        passes = node.op_type in PASSING and any(name in reached for name in node.input)
        if is_layer or passes:
            names.append(node.name)
            reached.update(node.output)
    return names


def _overrides(
    calibrated: Calibrated, in_float: Collection[str]
) -> dict[str, list[dict[str, Any]]]:
    """Predictions are counted in steps: one is one."""

    overrides = {}
    for name in calibrated.steps:
        if f"{name}.steps" not in in_float:
            one = {"scale": np.array(1, np.float32), "zero_point": np.array(0, np.uint8)}
            overrides[f"{name}.steps"] = [one]
    return overrides
