"""GraphDistillLoss with PRESET: official against numbers recorded from the published code.

Values, gradients and running statistics for every published kind of node: pillars, BEV maps of
SECOND (one by one, and the unused variant for a feature pyramid), the BEV map for nuScenes, points
of PointRCNN.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pcdet_distill.distill.losses.graph import GraphDistillLoss
from pcdet_distill.distill.node_converters import bev_nodes, point_nodes
from pcdet_distill.distill.nodes import NodeFeatures, NodeGrid
from pcdet_distill.models.taps import TapInfo

RTOL = 1e-9


def fill(adapter, phase):
    """The weights of the recorded adapters, float32 before they were widened."""
    width, inputs = adapter.weight.shape
    entries = torch.arange(width * inputs, dtype=torch.float64)
    channels = torch.arange(width, dtype=torch.float64)
    weight = torch.sin(0.37 * entries + 0.11 + phase) / inputs**0.5
    gamma = 1 + 0.1 * torch.cos(0.5 * channels + phase)
    beta = 0.05 * torch.sin(0.3 * channels + 1.0 + phase)
    with torch.no_grad():
        adapter.weight.copy_(weight.reshape(width, inputs).float())
        adapter.gamma.copy_(gamma.float())
        adapter.beta.copy_(beta.float())


KINDS = {"pillars": "voxel", "second": "bev", "fp": "bev", "nus": "bev", "point": "point"}
POOLS = {"none": "none", "max": "max", "avg": "mean"}


def settings_of(meta, kind, student_channels):
    """The block of the loss as in a yaml file; values of the preset are left out."""
    cfg = {
        "PRESET": "official",
        "NUM_NODES": meta["M"],
        "NUM_NEIGHBORS": meta["K"],
        "EDGE": {"idendity": "concat", "sub": "difference"}[meta["fuse"]],
        "SAMPLING": meta["sample"],
    }
    if kind == "point":
        # The preset takes as many channels as the student has.
        assert meta["cout"] == student_channels
        if meta["pool"] != "max":
            cfg["POOL"] = POOLS[meta["pool"]]
    else:
        cfg["EMBED_DIM"] = meta["cout"]
    if not meta["reweight"]:
        cfg.update(WEIGHTING="none", DISTANCE="frobenius")
    elif meta["det"] == "MVX":
        cfg["WEIGHTING"] = "none"
    return cfg


def build(meta, kind, student_channels, teacher_channels, dtype):
    """The loss as a yaml file would ask for it."""
    loss = GraphDistillLoss.from_config(
        settings_of(meta, kind, student_channels),
        TapInfo("s", student_channels, 1, kind),
        TapInfo("t", teacher_channels, 1, kind),
        "test",
    ).to(dtype)
    fill(loss.teacher_adapter, 0.0)
    fill(loss.student_adapter, 0.7)
    return loss


def nodes_of(golden, meta, kind, features):
    """The nodes of one side's recorded features."""
    if kind == "bev":
        _, _, height, width = features.shape
        grid = NodeGrid((1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (width, height, 1))
        return bev_nodes(features, {}, grid)
    if kind == "point":
        frames, _, count = features.shape
        rows = torch.arange(frames * count)
        frame_of_row = rows // count
        x = rows % count
        zero = torch.zeros_like(rows)
        coords = torch.stack([frame_of_row, x, zero, zero], dim=1).to(features.dtype)
        features_of_rows = features.transpose(1, 2).flatten(0, 1)
        return point_nodes(features_of_rows, {"point_coords": coords}, None)
    frame = torch.zeros(len(features), dtype=torch.long)
    counts = torch.from_numpy(golden["in_num_points"]).to(features.dtype)
    return NodeFeatures(features, frame, torch.zeros(len(frame), 3), counts)


def recorded_queries(golden, nodes):
    """Rows of the queries; the recording counts them in each frame if frames are separate."""
    queries = torch.from_numpy(golden["out_query_idx"]).long()
    if queries.dim() == 1:
        return queries
    num_frames = len(queries)
    first_of_frame = torch.arange(num_frames) * (len(nodes) // num_frames)
    return (queries + first_of_frame[:, None]).flatten()


def run(golden, meta, dtype):
    """Loss, its module and the student's features after backward."""
    kind = KINDS[meta["id"].split("_")[0]]
    number = meta.get("layer", 0) if kind == "bev" else ""
    student = torch.from_numpy(golden[f"in_student{number}"]).to(dtype).requires_grad_()
    teacher = torch.from_numpy(golden[f"in_teacher{number}"]).to(dtype)
    sides = [nodes_of(golden, meta, kind, features) for features in (student, teacher)]
    module = build(meta, kind, sides[0].features.shape[1], sides[1].features.shape[1], dtype)
    queries, recorded = module.choose_queries(sides[1]), recorded_queries(golden, sides[1])
    if (
        "counts" not in meta["id"]
    ):  # integer counts tie, and which of equals are taken is not specified
        assert sorted(queries.tolist()) == sorted(recorded.tolist())
    value = module.compare(*sides, recorded)
    value.backward()
    return value.detach(), module, student


def close(actual, expected, rtol):
    """Relative to the largest number of the tensor."""
    expected = np.asarray(expected, dtype=np.float64)
    scale = max(float(np.abs(expected).max()), 1e-12)
    np.testing.assert_allclose(
        actual.detach().double().numpy().reshape(expected.shape) / scale,
        expected / scale,
        rtol=rtol,
        atol=rtol,
    )


def check(golden, meta, dtype, suffix, rtol):
    value, module, student = run(golden, meta, dtype)
    close(value, golden[f"out_loss{suffix}"], rtol)
    close(student.grad, golden[f"out_grad_student{suffix}"], rtol)
    for side in ("teacher", "student"):
        adapter = getattr(module, f"{side}_adapter")
        close(adapter.weight.grad, golden[f"out_grad_{side}_conv{suffix}"], rtol)
        close(adapter.gamma.grad, golden[f"out_grad_{side}_gamma{suffix}"], rtol)
        close(adapter.beta.grad, golden[f"out_grad_{side}_beta{suffix}"], rtol)
        if not suffix:
            close(adapter.running_mean, golden[f"out_{side}_running_mean"], rtol)
            close(adapter.running_var, golden[f"out_{side}_running_var"], rtol)


def check_file(golden_file):
    with np.load(golden_file, allow_pickle=False) as golden:
        meta = json.loads(str(golden["meta"]))
        check(golden, meta, torch.float64, "", RTOL)
        if meta["same_sets_f32"]:
            check(golden, meta, torch.float32, "_f32", 2e-4)


@pytest.mark.golden("distill/*/pillars_*.npz")
def test_pillars(golden_file: Path):
    check_file(golden_file)


@pytest.mark.golden("distill/*/second_*.npz")
def test_second(golden_file: Path):
    check_file(golden_file)


@pytest.mark.golden("distill/*/fp_*.npz")
def test_feature_pyramid(golden_file: Path):
    check_file(golden_file)


@pytest.mark.golden("distill/*/nus_*.npz")
def test_nuscenes(golden_file: Path):
    check_file(golden_file)


@pytest.mark.golden("distill/*/point_*.npz")
def test_points(golden_file: Path):
    check_file(golden_file)
