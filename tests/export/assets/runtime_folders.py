"""Exported folders for the tests of detect.py: a network that returns numbers made up before."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import pcdet_distill

PROGRAMS = Path(pcdet_distill.__file__).parent / "export" / "assets"
RANGE_M = [0.0, -39.68, -3.0, 69.12, 39.68, 1.0]
SIZE_M = [0.16, 0.16, 4.0]
GRID = [432, 496, 1]
NMS = {
    "heads": [0],
    "label": None,
    "kind": "rotated",
    "threshold": 0.1,
    "pre_maxsize": 4096,
    "post_maxsize": 500,
}
HEAD = {
    "boxes": "boxes",
    "scores": "scores",
    "labels": None,
    "column_labels": [1, 2, 3],
    "filter_scores": None,
}
PCD_HEADER = """# .PCD v0.7
VERSION 0.7
FIELDS x y z _ Reflectivity _ ring
SIZE 4 4 4 1 1 1 2
TYPE F F F U U U U
COUNT 1 1 1 4 1 0 1
WIDTH {count}
HEIGHT 1
VIEWPOINT 0 0 0 1 0 0 0
POINTS {count}
DATA {kind}
"""


def config_of(**changes: Any) -> dict[str, Any]:
    """A config.json with one head, without the hash of a model."""
    config = {
        "format_version": 1,
        "layout": "boxes",
        "stages_outside": [],
        "model_sha256": "",
        "class_names": ["Car", "Pedestrian", "Cyclist"],
        "points": {
            "features": ["x", "y", "z", "intensity"],
            "range_m": RANGE_M,
            "scale": [1.0, 1.0, 1.0, 1.0],
        },
        "voxels": {
            "kind": "fixed",
            "size_m": SIZE_M,
            "grid": GRID,
            "max_points": 32,
            "max_voxels": 40000,
        },
        "heads": [HEAD],
        "post_processing": {
            "score_threshold": 0.1,
            "keeps_equal": True,
            "centre_range_m": None,
            "nms": [NMS],
        },
    }
    config.update(changes)
    return config


def write_folder(
    folder: Path, outputs: Mapping[str, np.ndarray], config: dict[str, Any] | None = None
) -> Path:
    """A folder with config.json and a model.onnx that takes pillars and returns ``outputs``."""
    folder.mkdir(parents=True, exist_ok=True)
    inputs = [
        helper.make_tensor_value_info("voxels", TensorProto.FLOAT, ["P", "T", "C"]),
        helper.make_tensor_value_info("voxel_num_points", TensorProto.INT32, ["P"]),
        helper.make_tensor_value_info("voxel_coords", TensorProto.INT32, ["P", 3]),
    ]
    nodes = []
    values = []
    for name, value in outputs.items():
        tensor = numpy_helper.from_array(value, f"{name}_value")
        nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        values.append(helper.make_tensor_value_info(name, kind, list(value.shape)))
    graph = helper.make_graph(nodes, "made_up", inputs, values)
    opset = helper.make_opsetid("", 17)
    content = helper.make_model(graph, opset_imports=[opset], ir_version=9).SerializeToString()
    onnx.checker.check_model(content)
    (folder / "model.onnx").write_bytes(content)
    config = config or config_of()
    config["model_sha256"] = hashlib.sha256(content).hexdigest()
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def crowded_boxes(count: int, random: np.random.RandomState, classes: int = 3):
    """Boxes (N, 7) around few centres, as a head gives them, and scores (N, classes)."""
    centres = random.uniform([5, -30, -2], [60, 30, 0], (max(1, count // 12), 3))
    sizes = random.uniform([0.5, 0.5, 1.4], [4.6, 2.0, 1.9], (len(centres), 3))
    headings = random.uniform(-3.2, 3.2, len(centres))
    owner = random.randint(len(centres), size=count)
    boxes = np.concatenate([centres, sizes, headings[:, None]], axis=1)[owner]
    boxes[:, :2] += random.normal(0, 0.2, (count, 2))
    boxes[:, 6] += random.normal(0, 0.1, count)
    scores = random.uniform(0, 1, (count, classes))
    return boxes.astype(np.float32), scores.astype(np.float32)


def random_points(count: int, seed: int = 0) -> np.ndarray:
    """Points (N, 4), some outside of the range, many in few cells."""
    random = np.random.RandomState(seed)
    far = random.uniform([-5, -45, -4, 0], [75, 45, 2, 1], (count // 2, 4))
    near = random.normal([10, 0, -1, 0.5], [2, 2, 0.5, 0.1], (count - len(far), 4))
    points = np.concatenate([far, near]).astype(np.float32)
    return points[random.permutation(count)]


def load_program(name: str) -> ModuleType:
    """A file of an exported folder as a module, as another program loads it."""
    spec = importlib.util.spec_from_file_location(name, PROGRAMS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
