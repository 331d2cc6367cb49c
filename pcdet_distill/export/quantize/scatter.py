"""Pillars are quantised before they are scattered, not the map of mostly empty cells after.

The map is the largest tensor of the network, and the first to be quantised. Scattering int8 values
moves a quarter of the bytes. Empty cells hold the step that means zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .editing import Editable

if TYPE_CHECKING:
    import onnx

# Operators between the scatter and the first convolution, which move values and change none.
MOVING = ("Slice", "Reshape", "Transpose")


def scatter_in_int8(model: onnx.ModelProto) -> onnx.ModelProto:
    """The network with QuantizeLinear before the ScatterND of the pillars, where there is one."""
    editable = Editable(model)
    for quantizer in list(editable.nodes):
        if quantizer.op_type != "QuantizeLinear":
            continue
        chain = _chain_to_scatter(editable, quantizer.input[0])
        if chain:
            _move(editable, quantizer, chain)
    return editable.finish()


def _chain_to_scatter(editable: Editable, tensor: str) -> list[onnx.NodeProto]:
    """The nodes from the scatter to ``tensor``, the scatter last; empty if there is none."""
    chain = []
    node = editable.maker(tensor)
    while node is not None and node.op_type in MOVING and len(editable.readers(tensor)) == 1:
        chain.append(node)
        tensor = node.input[0]
        node = editable.maker(tensor)
    if node is None or node.op_type != "ScatterND" or len(editable.readers(tensor)) != 1:
        return []
    if not _starts_empty(editable, node):
        return []
    return [*chain, node]


def _starts_empty(editable: Editable, scatter: onnx.NodeProto) -> bool:
    """Whether the scatter writes into an array of zeros."""
    canvas = editable.maker(scatter.input[0])
    if canvas is None or canvas.op_type != "Expand" or canvas.input[0] not in editable.constants:
        return False
    return not editable.constant(canvas.input[0]).any()


def _move(editable: Editable, quantizer: onnx.NodeProto, chain: list[onnx.NodeProto]) -> None:
    scatter = chain[-1]
    canvas = editable.maker(scatter.input[0])
    assert canvas is not None
    scale, zero = quantizer.input[1], quantizer.input[2]
    pillars = scatter.input[2]
    editable.remove(quantizer)
    editable.add("QuantizeLinear", [pillars, scale, zero], f"{pillars}.int8")
    empty = editable.add_constant(f"{pillars}.empty", np.asarray(editable.constant(zero)))
    editable.add("Expand", [empty, canvas.input[1]], f"{pillars}.canvas")
    scatter.input[0] = f"{pillars}.canvas"
    scatter.input[2] = f"{pillars}.int8"
    if not editable.readers(canvas.output[0]):
        editable.remove(canvas)
    # The last node of the chain takes the place of the quantiser.
    chain[0].output[0] = quantizer.output[0]
