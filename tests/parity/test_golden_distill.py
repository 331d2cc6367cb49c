"""GraphDistillLoss with PRESET: official against numbers recorded from the published code, values and gradients."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pcdet_distill.distill.losses.graph import GraphDistillLoss
from pcdet_distill.distill.nodes import NodeFeatures
from pcdet_distill.models.taps import TapInfo

RTOL = 1e-9


def fill(adapter, phase):
    """The recorded adapters' deterministic weights; the recording's modules held them in float32 before widening."""
    width, inputs = adapter.weight.shape
    flat, out = torch.arange(width * inputs, dtype=torch.float64), torch.arange(width, dtype=torch.float64)
    with torch.no_grad():
        adapter.weight.copy_((torch.sin(0.37 * flat + 0.11 + phase) / inputs ** 0.5).reshape(width, inputs).float())
        adapter.gamma.copy_((1 + 0.1 * torch.cos(0.5 * out + phase)).float())
        adapter.beta.copy_((0.05 * torch.sin(0.3 * out + 1.0 + phase)).float())


def build(meta, student_channels, teacher_channels, dtype):
    """The loss as a yaml file would ask for it."""
    cfg = {"PRESET": "official", "NUM_NODES": meta["M"], "NUM_NEIGHBORS": meta["K"], "EMBED_DIM": meta["cout"],
           "EDGE": {"idendity": "concat", "sub": "difference"}[meta["fuse"]], "SAMPLING": meta["sample"]}
    if not meta["reweight"]:
        cfg["WEIGHTING"] = "none"
    loss = GraphDistillLoss.from_config(cfg, TapInfo("s", student_channels, 1, "voxel"),
                                        TapInfo("t", teacher_channels, 1, "voxel"), "test").to(dtype)
    fill(loss.teacher_adapter, 0.0)
    fill(loss.student_adapter, 0.7)
    return loss


def run(golden, meta, dtype):
    """Loss, its module and the student's features after backward."""
    student = torch.from_numpy(golden["in_student"]).to(dtype).requires_grad_()
    teacher = torch.from_numpy(golden["in_teacher"]).to(dtype)
    counts = torch.from_numpy(golden["in_num_points"]).to(dtype)
    zeros = torch.zeros(len(student), dtype=torch.long)
    sides = [NodeFeatures(features, zeros, torch.zeros(len(zeros), 3), counts) for features in (student, teacher)]
    module = build(meta, student.shape[1], teacher.shape[1], dtype)
    queries = module.choose_queries(sides[1])
    recorded = torch.from_numpy(golden["out_query_idx"])
    if "counts" not in meta["id"]:  # integer counts tie, and which of equals are taken is not specified
        assert sorted(queries.tolist()) == sorted(recorded.tolist())
    value = module.compare(*sides, recorded)
    value.backward()
    return value.detach(), module, student


def close(actual, expected, rtol):
    """Relative to the largest number of the tensor."""
    expected = np.asarray(expected, dtype=np.float64)
    scale = max(float(np.abs(expected).max()), 1e-12)
    np.testing.assert_allclose(actual.detach().double().numpy().reshape(expected.shape) / scale, expected / scale,
                               rtol=rtol, atol=rtol)


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


@pytest.mark.golden("distill/*/pillars_*.npz")
def test_pillars(golden_file: Path):
    with np.load(golden_file, allow_pickle=False) as golden:
        meta = json.loads(str(golden["meta"]))
        check(golden, meta, torch.float64, "", RTOL)
        if meta["same_sets_f32"]:
            check(golden, meta, torch.float32, "_f32", 2e-4)
