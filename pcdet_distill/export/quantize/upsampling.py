"""Transposed convolutions as convolutions, because runtimes have int8 kernels for these alone.

PointPillars upsamples by transposed convolutions whose kernel is as wide as their stride. Then
every input cell makes a block of s x s output cells by itself: a 1x1 convolution to s x s times the
channels, whose values are moved to their places.

onnxruntime moves them in the memory layout of its int8 convolutions, channels last: there the
channels of a row of a block stay together. ``DepthToSpace`` moves single bytes and takes ten times
as long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...extras import import_extra
from .editing import Editable

if TYPE_CHECKING:
    import onnx


def replace_transposed_convolutions(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network without transposed convolutions whose kernel is as wide as their stride."""
    shapes = _map_shapes(model)
    editable = Editable(model)
    for node in list(editable.nodes):
        if node.op_type == "ConvTranspose" and _makes_blocks(node):
            _replace(editable, node, shapes[node.input[0]])
    return editable.finish()


def _map_shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors, 0 for a size that may differ."""
    onnx = import_extra("onnx", needed_by="export")
    shapes = {}
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    for info in [*inferred.input, *inferred.value_info]:
        sizes = [size.dim_value for size in info.type.tensor_type.shape.dim]
        shapes[info.name] = tuple(sizes)
    return shapes


def _attributes(node: onnx.NodeProto) -> dict[str, list[int]]:
    return {entry.name: list(entry.ints) or [entry.i] for entry in node.attribute}


def _makes_blocks(node: onnx.NodeProto) -> bool:
    values = _attributes(node)
    return (
        values["kernel_shape"] == values["strides"]
        and len(set(values["strides"])) == 1
        and not any(values.get("pads", [0]))
        and not any(values.get("output_padding", [0]))
        and values.get("group", [1]) == [1]
        and set(values.get("dilations", [1])) == {1}
    )


def _replace(editable: Editable, node: onnx.NodeProto, shape: tuple[int, ...]) -> None:
    """A 1x1 convolution, the ReLU behind it, and the way of the values to their places."""
    output = node.output[0]
    weight = editable.constant(node.input[1])  # (C_in, C_out, s, s)
    bias = editable.constant(node.input[2])
    channels, stride = weight.shape[1], weight.shape[2]
    # Output channels by row of the block, column of the block, channel.
    rows = np.ascontiguousarray(weight.transpose(2, 3, 1, 0)).reshape(-1, weight.shape[0], 1, 1)
    inputs = [
        node.input[0],
        editable.add_constant(f"{output}.block_weight", rows),
        editable.add_constant(f"{output}.block_bias", np.tile(bias, stride * stride)),
    ]
    editable.remove(node)
    readers = editable.readers(output)
    has_relu = len(readers) == 1 and readers[0].op_type == "Relu"
    if stride == 1:
        editable.add("Conv", inputs, output, kernel_shape=[1, 1])
        return
    last = output
    blocks = f"{output}.blocks"
    editable.add("Conv", inputs, blocks, kernel_shape=[1, 1])
    if has_relu:
        last = readers[0].output[0]
        editable.remove(readers[0])
        editable.add("Relu", [blocks], f"{blocks}.relu")
        blocks = f"{blocks}.relu"
    _add_moves(editable, blocks, last, (*shape[2:], stride, channels))


def _add_moves(
    editable: Editable, blocks: str, output: str, sizes: tuple[int, int, int, int]
) -> None:
    """Blocks (1, s * s * C, ny, nx) to a map (1, C, ny * s, nx * s)."""
    ny, nx, stride, channels = sizes
    by_row = np.array([1, ny, nx, stride, stride * channels])
    joined = np.array([1, ny * stride, nx * stride, channels])
    editable.add("Transpose", [blocks], f"{output}.last", perm=[0, 2, 3, 1])
    rows = editable.add_constant(f"{output}.by_row", by_row)
    editable.add("Reshape", [f"{output}.last", rows], f"{output}.rows")
    editable.add("Transpose", [f"{output}.rows"], f"{output}.placed", perm=[0, 1, 3, 2, 4])
    whole = editable.add_constant(f"{output}.joined", joined)
    editable.add("Reshape", [f"{output}.placed", whole], f"{output}.map")
    editable.add("Transpose", [f"{output}.map"], output, perm=[0, 3, 1, 2])
