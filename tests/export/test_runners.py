"""Runners leave the process as they found it."""

from __future__ import annotations

import subprocess
import sys

import pytest

# PyTorch's data loaders handle the signal of an ended child; faulthandler gives signals a stack.
AFTER_TWO_RUNNERS = """
import faulthandler, gc, signal, subprocess, sys
from pcdet_distill.export.runners import OpenVinoRunner

faulthandler.enable()
ended = []
signal.signal(signal.SIGCHLD, lambda *_: ended.append(1))
first = OpenVinoRunner(sys.argv[1])
second = OpenVinoRunner(sys.argv[1])
del first
gc.collect()
del second
gc.collect()
ended.clear()
subprocess.run([sys.executable, "-c", ""], check=True)
print("children:", len(ended))
"""


def test_signals_are_handled_after_openvino_networks_are_freed(tmp_path) -> None:
    pytest.importorskip("openvino")
    onnx = pytest.importorskip("onnx")
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])],
        "relu",
        [value("x", onnx.TensorProto.FLOAT, [4])],
        [value("y", onnx.TensorProto.FLOAT, [4])],
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    path = tmp_path / "relu.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    run = subprocess.run(
        [sys.executable, "-c", AFTER_TWO_RUNNERS, str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, f"ended with {run.returncode}: {run.stderr[-500:]}"
    assert run.stdout == "children: 1\n"
