"""Graph: an ONNX graph, written node by node.

``torch.onnx`` traces a model and keeps what one frame did. Such a file ran on its own frame and
failed on the next, whose pillars were others. The networks here consist of few operators, so their
graphs are written directly: every size that may differ is free, tensors have the names of the
model's modules, and the same weights always give the same bytes.

A tensor of the graph is known by its name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch

from ..extras import import_extra
from .config import TensorSpec

if TYPE_CHECKING:
    import onnx

# What a node reads: the name of a tensor, or a constant.
Operand: TypeAlias = "str | float | Sequence[int] | np.ndarray | torch.Tensor"

OLDEST_OPSET = 18  # ReduceMax takes its axes as an input, ScatterND may reduce


class Graph:
    """Nodes, constants, inputs and outputs of a graph that is being written."""

    def __init__(self) -> None:
        self._onnx = import_extra("onnx", needed_by="export")
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self.inputs: list[TensorSpec] = []
        self.outputs: list[TensorSpec] = []
        self._names: set[str] = set()
        self.FLOAT = int(self._onnx.TensorProto.FLOAT)
        self.INT32 = int(self._onnx.TensorProto.INT32)
        self.INT64 = int(self._onnx.TensorProto.INT64)

    def add_input(self, name: str, dtype: str, shape: Sequence[int | str]) -> str:
        """Declare an input; a letter in ``shape`` is a size that may differ from run to run."""
        self.inputs.append(TensorSpec(self._new_name(name), dtype, tuple(shape)))
        return name

    def add_output(self, name: str, dtype: str, shape: Sequence[int | str]) -> str:
        """Declare a tensor an output."""
        self.outputs.append(TensorSpec(name, dtype, tuple(shape)))
        return name

    def add(self, operator: str, *operands: Operand, name: str = "", **attributes: object) -> str:
        """Add a node with one output, and return the output's name.

        Args:
            operator: of ONNX.
            operands: inputs. Numbers become float32 constants, lists of integers int64 ones.
            name: of the output; by default one that tells the operator.
            attributes: of the operator.
        """
        return self.add_with_outputs(operator, *operands, names=[name], **attributes)[0]

    def add_with_outputs(
        self, operator: str, *operands: Operand, names: Sequence[str], **attributes: object
    ) -> list[str]:
        """Add a node with several outputs; an empty name becomes one that tells the operator."""
        inputs = [self._input_name(operand) for operand in operands]
        number = len(self.nodes)
        outputs = []
        for place, name in enumerate(names):
            outputs.append(self._new_name(name or f"{operator.lower()}_{number}_{place}"))
        node = self._onnx.helper.make_node(
            operator, inputs, outputs, name=f"{operator}_{number}", **attributes
        )
        self.nodes.append(node)
        return outputs

    def to_model(self, opset: int) -> onnx.ModelProto:
        """The finished model, checked by ``onnx.checker``."""
        helper = self._onnx.helper
        graph = helper.make_graph(
            self.nodes,
            "pcdet_distill",
            [self._value_info(spec) for spec in self.inputs],
            [self._value_info(spec) for spec in self.outputs],
            list(self.constants.values()),
        )
        opsets = [helper.make_opsetid("", opset)]
        model = helper.make_model(
            graph,
            opset_imports=opsets,
            ir_version=helper.find_min_ir_version_for(opsets),
            producer_name="pcdet_distill",
        )
        self._onnx.checker.check_model(model, full_check=True)
        return model

    def _input_name(self, operand: Operand) -> str:
        return operand if isinstance(operand, str) else self._constant(operand)

    def _constant(self, value: float | Sequence[int] | np.ndarray | torch.Tensor) -> str:
        """Name of a constant. Equal constants are stored once."""
        array = _as_array(value)
        content = array.tobytes() + f"{array.dtype}{array.shape}".encode()
        name = f"constant_{hashlib.sha256(content).hexdigest()[:16]}"
        if name not in self.constants:
            self.constants[name] = self._onnx.numpy_helper.from_array(array, name)
        return name

    def _new_name(self, name: str) -> str:
        assert name not in self._names, f"two tensors with the name '{name}'"
        self._names.add(name)
        return name

    def _value_info(self, spec: TensorSpec) -> onnx.ValueInfoProto:
        dtype = self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
        return self._onnx.helper.make_tensor_value_info(spec.name, dtype, spec.shape)


def _as_array(value: float | Sequence[int] | np.ndarray | torch.Tensor) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        return np.ascontiguousarray(value).reshape(value.shape)
    if isinstance(value, (int, float)):
        return np.array(value, dtype=np.float32)
    return np.array(value, dtype=np.int64)


def int32(value: int | Sequence[int]) -> np.ndarray:
    """A constant of the type of coordinates and labels."""
    return np.array(value, dtype=np.int32)


def columns_of(graph: Graph, tensor: str, start: int, end: int) -> str:
    """Columns ``start`` to ``end`` (exclusive) of the last axis."""
    return graph.add("Slice", tensor, [start], [end], [-1])
