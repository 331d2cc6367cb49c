"""The dense part of a network: the convolutions, without the pillars before and the boxes behind.

Its tensors have the same shape in every frame, which onnxruntime's histograms need.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...extras import import_extra
from ..boxes import Arrays
from ..runners import OnnxRuntimeRunner
from .editing import Editable

if TYPE_CHECKING:
    import onnx


def dense_part(model: onnx.ModelProto, outputs: Sequence[str]) -> onnx.ModelProto:
    """The network from the inputs of its first convolutions to ``outputs``."""
    onnx = import_extra("onnx", needed_by="export")
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    extractor = onnx.utils.Extractor(inferred)
    return extractor.extract_model(first_maps(model), list(outputs))


def maps_of_frames(model: onnx.ModelProto, frames: Sequence[Arrays]) -> list[Arrays]:
    """The inputs of the dense part for frames, given as inputs of the network."""
    names = first_maps(model)
    if set(names) <= {value.name for value in model.graph.input}:
        return list(frames)
    runner = OnnxRuntimeRunner(with_outputs(model, names))
    return [runner(inputs) for inputs in frames]


def first_maps(model: onnx.ModelProto) -> list[str]:
    """The tensors that a convolution reads and that come from no convolution."""
    behind_convolution = set()
    maps = []
    for node in Editable(model).nodes:
        is_behind = any(name in behind_convolution for name in node.input)
        is_convolution = node.op_type in ("Conv", "ConvTranspose")
        if is_convolution and not is_behind and node.input[0] not in maps:
            maps.append(node.input[0])
        if is_convolution or is_behind:
            behind_convolution.update(node.output)
    return maps


def with_outputs(model: onnx.ModelProto, tensors: Sequence[str]) -> onnx.ModelProto:
    """The network with these tensors as its outputs."""
    copied = type(model)()
    copied.CopyFrom(model)
    del copied.graph.output[:]
    for name in tensors:
        copied.graph.output.append(type(model.graph.output[0])(name=name))
    return copied
