"""Editable: an ONNX model whose nodes can be replaced and rewired."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...extras import import_extra

if TYPE_CHECKING:
    import onnx


class Editable:
    """A copy of a model. Nodes that are added may come in any order; ``finish`` sorts them."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._onnx = import_extra("onnx", needed_by="export")
        self.model = type(model)()
        self.model.CopyFrom(model)
        self.nodes: list[onnx.NodeProto] = list(self.model.graph.node)
        self.constants: dict[str, onnx.TensorProto] = {}
        for tensor in self.model.graph.initializer:
            self.constants[tensor.name] = tensor

    def constant(self, name: str) -> np.ndarray:
        """The value of a constant."""
        return self._onnx.numpy_helper.to_array(self.constants[name])

    def add_constant(self, name: str, value: np.ndarray) -> str:
        """Add or replace a constant; returns its name."""
        self.constants[name] = self._onnx.numpy_helper.from_array(np.asarray(value), name)
        return name

    def add(
        self, operator: str, inputs: Sequence[str], output: str, **attributes: object
    ) -> onnx.NodeProto:
        """Add a node with one output."""
        node = self._onnx.helper.make_node(
            operator, list(inputs), [output], name=f"make_{output}", **attributes
        )
        self.nodes.append(node)
        return node

    def remove(self, node: onnx.NodeProto) -> None:
        """Take a node out."""
        self.nodes = [other for other in self.nodes if other is not node]

    def maker(self, tensor: str) -> onnx.NodeProto | None:
        """The node that makes a tensor; None for inputs and constants."""
        for node in self.nodes:
            if tensor in node.output:
                return node
        return None

    def readers(self, tensor: str) -> list[onnx.NodeProto]:
        """The nodes that read a tensor."""
        return [node for node in self.nodes if tensor in node.input]

    def finish(self) -> onnx.ModelProto:
        """The edited model: sorted, without constants that nobody reads, checked."""
        used = set()
        for node in self.nodes:
            used.update(node.input)
        del self.model.graph.node[:]
        del self.model.graph.initializer[:]
        del self.model.graph.value_info[:]
        self.model.graph.node.extend(self._sorted_nodes())
        kept = [tensor for name, tensor in self.constants.items() if name in used]
        self.model.graph.initializer.extend(kept)
        self._onnx.checker.check_model(self.model, full_check=True)
        return self.model

    def _sorted_nodes(self) -> list[onnx.NodeProto]:
        """The nodes, every one behind those that make its inputs."""
        made_later = set()
        for node in self.nodes:
            made_later.update(node.output)
        waiting = list(self.nodes)
        ordered = []
        while waiting:
            ready = [node for node in waiting if not made_later & set(node.input)]
            assert ready, "the nodes form a circle"
            for node in ready:
                made_later -= set(node.output)
            ordered += ready
            waiting = [node for node in waiting if all(node is not other for other in ready)]
        return ordered
